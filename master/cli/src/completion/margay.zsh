#compdef margay
# Completion of margay and its commands for zsh: eval "$(margay completion zsh)"
_margay() {
    local -a found
    found=(${(f)"$(margay complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)"})
    if (( ! $#found )); then
        _files
        return
    fi
    compadd -Q -S '' -- ${(M)found:#*[=.]}
    compadd -Q -- ${found:#*[=.]}
}
compdef _margay margay $(margay --list-names 2>/dev/null)
