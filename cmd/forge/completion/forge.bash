# bash completion of forge. To use it: source <(forge completion bash)
_forge() {
	local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:1:COMP_CWORD}") line word
	# bash takes ":" and "=" for ends of words: what stands before them in one argument is put together again.
	if declare -F _get_comp_words_by_ref >/dev/null; then
		local cword
		_get_comp_words_by_ref -n := cur words cword
		words=("${words[@]:1:cword}")
	fi
	COMPREPLY=()
	while IFS= read -r line; do
		if [[ $line == :files ]]; then
			compopt -o default 2>/dev/null
			continue
		fi
		word=${line%%$'\t'*}
		COMPREPLY+=("$word")
		if [[ $word == *: ]]; then compopt -o nospace 2>/dev/null; fi
	done < <("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null)
	if [[ $cur == *=* && $COMP_WORDBREAKS == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#"${cur%%=*}="}"); fi
	if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}
complete -F _forge forge
