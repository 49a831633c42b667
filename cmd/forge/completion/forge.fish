# fish completion of forge. To use it: forge completion fish > ~/.config/fish/completions/forge.fish
function __forge_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete -- $words[2..-1] 2>/dev/null)
        if test "$line" = ":files"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c forge -f -a '(__forge_complete)'
