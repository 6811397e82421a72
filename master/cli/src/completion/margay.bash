# Completion of margay and its commands for bash: eval "$(margay completion bash)"
_margay() {
    local line=${COMP_LINE:0:COMP_POINT} breaks=${COMP_WORDBREAKS//[[:space:]\"\']/} cut= found
    local word=${line##*[[:space:]]}
    mapfile -t found < <(margay complete "$line" 2>/dev/null)
    # bash replaces only what stands behind its last word break.
    [[ -n $breaks ]] && cut=${word%"${word##*[$breaks]}"}
    COMPREPLY=("${found[@]#"$cut"}")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _margay margay $(margay --list-names 2>/dev/null)
