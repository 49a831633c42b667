#compdef forge
# zsh completion of forge. To use it: forge completion zsh > "${fpath[1]}/_forge", and start zsh again.
_forge() {
	local line word help
	local -a found
	while IFS= read -r line; do
		if [[ $line == :files ]]; then
			_files
			continue
		fi
		word=${line%%$'\t'*} help=
		[[ $line == *$'\t'* ]] && help=${line#*$'\t'}
		found+=("${word//:/\\:}:$help")
	done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
	(( $#found )) && _describe -V forge found
}
if [[ ${funcstack[1]} == _forge ]]; then _forge "$@"; else compdef _forge forge; fi
