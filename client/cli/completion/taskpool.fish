# fish completion for taskpool. The program itself knows what fits; file names are offered where nothing does.
function __taskpool_candidates
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --current-token --cut-at-cursor)
    $words[1] __complete -- $words[2..-1] "$current" 2>/dev/null
end
complete --command taskpool --arguments '(__taskpool_candidates)'
