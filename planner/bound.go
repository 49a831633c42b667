package planner

import (
	"fmt"
	"strings"
)

const (
	// maxValue is the longest value of a variable, in bytes: Linux gives no process a longer string (MAX_ARG_STRLEN).
	maxValue = 128 << 10
	// maxWord is the most that a word may expand to, in bytes.
	maxWord = 64 << 20
	// maxExpanded is the most that all instructions of a build file may expand to, in bytes. The configuration of an image,
	// which they end up in, has 4 MiB.
	maxExpanded = 16 << 20

	wordChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
)

// bound refuses a word that could expand beyond all measure, as "ENV A=$A$A" a few dozen times would.
func (v *variables) bound(word string) error {
	count, longest, depth := 0, 0, 0
	var open []bool // for each brace, whether it replaces
	nested := 0
	for i := 0; i < len(word); i++ {
		switch word[i] {
		case '}':
			if n := len(open); n > 0 {
				if open[n-1] {
					nested--
				}
				open = open[:n-1]
			}
		case '$':
			count++
			brace := strings.HasPrefix(word[i+1:], "{")
			if brace {
				i++
			}
			name := word[i+1:]
			name = name[:len(name)-len(strings.TrimLeft(name, wordChars))]
			longest = max(longest, len(v.values[name]))
			i += len(name)
			if brace {
				replaces := strings.HasPrefix(word[i+1:], "/")
				if open = append(open, replaces); replaces {
					nested++
					depth = max(depth, nested)
				}
			}
		}
	}
	each := 1.0
	for range depth { // each byte of a value may become another value
		each *= float64(longest)
	}
	if float64(count)*float64(longest)*each+float64(len(word))*each > maxWord {
		return fmt.Errorf("%.40q may expand to more than %d MiB", word, maxWord>>20)
	}
	return nil
}

// checkValue refuses a value that is too long for an environment.
func checkValue(name, value string) error {
	if len(value) > maxValue {
		return fmt.Errorf("%s: a value of %d bytes, more than the %d KiB that a process can be given", name, len(value), maxValue>>10)
	}
	return nil
}
