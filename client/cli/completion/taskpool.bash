# bash completion for taskpool. The program itself knows what fits; file names are offered where nothing does.
_taskpool() {
  local candidate _
  COMPREPLY=()
  while IFS=$'\t' read -r candidate _; do
    COMPREPLY+=("$candidate")
  done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o bashdefault -o default -F _taskpool taskpool
