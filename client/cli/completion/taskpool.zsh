#compdef taskpool
# zsh completion for taskpool. The program itself knows what fits; file names are offered where nothing does.
_taskpool() {
  local -a candidates
  local candidate description
  while IFS=$'\t' read -r candidate description; do
    candidates+=("${candidate//:/\\:}:$description")
  done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( ${#candidates} )); then
    _describe taskpool candidates
  else
    _files
  fi
}
if [[ "${funcstack[1]}" == _taskpool ]]; then
  _taskpool "$@"
else
  compdef _taskpool taskpool
fi
