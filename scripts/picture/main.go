// Command picture draws what a terminal shows as SVG: it reads lines with the sequences of colours (SGR) that tmux capture-pane -e
// prints, and writes the picture.
package main

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// Sizes of a cell, in pixels, and of what is around the text.
const (
	cellWidth, cellHeight = 8.4, 18
	margin                = 16
)

// palette are the sixteen colours of a terminal, legible on the picture's ground.
func palette() []string {
	return []string{
		"#4b5563", "#f87171", "#4ade80", "#facc15", "#60a5fa", "#c084fc", "#22d3ee", "#e5e7eb",
		"#9ca3af", "#fca5a5", "#86efac", "#fde047", "#93c5fd", "#d8b4fe", "#67e8f9", "#ffffff",
	}
}

// A style is how text is drawn.
type style struct {
	color     string // "" is the terminal's own
	bold, dim bool
}

// apply changes a style as a sequence says: its numbers, between ";".
func (s *style) apply(numbers string) {
	fields := strings.Split(numbers, ";")
	for i := 0; i < len(fields); i++ {
		n, _ := strconv.Atoi(fields[i]) // "" is 0
		switch {
		case n == 0:
			*s = style{}
		case n == 1:
			s.bold = true
		case n == 2:
			s.dim = true
		case n == 22:
			s.bold, s.dim = false, false
		case n >= 30 && n <= 37:
			s.color = palette()[n-30]
		case n >= 90 && n <= 97:
			s.color = palette()[n-82]
		case n == 39:
			s.color = ""
		case n == 38 && i+2 < len(fields) && fields[i+1] == "5":
			if k, err := strconv.Atoi(fields[i+2]); err == nil && k < 16 {
				s.color = palette()[k]
			}
			i += 2
		}
	}
}

func (s style) attributes() string {
	text := ""
	if s.color != "" {
		text += ` fill="` + s.color + `"`
	}
	if s.bold {
		text += ` font-weight="bold"`
	}
	if s.dim {
		text += ` opacity="0.65"`
	}
	return text
}

// line draws a line of text at a height. Each run of one style is placed by its column, so that fonts need not agree on widths.
func line(w io.Writer, text string, y int) {
	var s style
	column := 0
	for text != "" {
		if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
			end := strings.IndexFunc(rest, unicode.IsLetter)
			if end < 0 {
				return
			}
			if rest[end] == 'm' {
				s.apply(rest[:end])
			}
			text = rest[end+1:]
			continue
		}
		run, _, _ := strings.Cut(text, "\x1b")
		text = text[len(run):]
		if run == "" {
			text = text[1:]
			continue
		}
		begin := strings.TrimLeft(run, " ")
		shown := strings.TrimRight(begin, " ")
		if shown != "" {
			at := column + len([]rune(run)) - len([]rune(begin))
			fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\" textLength=\"%.1f\"%s>%s</text>\n",
				margin+float64(at)*cellWidth, y, float64(len([]rune(shown)))*cellWidth, s.attributes(),
				strings.ReplaceAll(html.EscapeString(shown), " ", "\u00a0")) // or they would be one
		}
		column += len([]rune(run))
	}
}

func main() {
	var lines []string
	in := bufio.NewScanner(os.Stdin)
	columns := 80
	if len(os.Args) > 1 {
		columns, _ = strconv.Atoi(os.Args[1])
	}
	for in.Scan() {
		lines = append(lines, strings.TrimRight(in.Text(), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	fmt.Printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" font-family="ui-monospace, 'DejaVu Sans Mono', monospace" font-size="14" fill="#e5e7eb">
<rect width="100%%" height="100%%" rx="8" fill="#111827"/>
`, 2*margin+float64(columns)*cellWidth, 2*margin+len(lines)*cellHeight)
	for i, text := range lines {
		line(os.Stdout, text, margin+14+i*cellHeight)
	}
	fmt.Println("</svg>")
}
