# Completion of margay and its commands for fish: margay completion fish | source
function __margay
    margay complete (commandline -cp | string collect) 2>/dev/null
end
for name in margay (margay --list-names 2>/dev/null)
    complete -c $name -a '(__margay)'
end
