package ui

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// A grid is a terminal that knows the sequences which are sent to it, breaks lines and joins them again when its width changes, and
// keeps what has left its screen at the top. It has its own idea of how wide characters are.
type grid struct {
	t             *testing.T
	width, height int
	rows          []gridRow // what has left the screen, too
	y, x          int       // of rows
	wrap          bool
}

type gridRow struct {
	cells  []string // "" is the second half of a wide character
	broken bool     // goes on in the next row
}

func newGrid(t *testing.T, width, height int) *grid {
	return &grid{t: t, width: width, height: height, rows: make([]gridRow, 1), wrap: true}
}

// top is the first row of the screen.
func (g *grid) top() int { return max(0, len(g.rows)-g.height) }

func (g *grid) write(s string) {
	for len(s) > 0 {
		switch {
		case strings.HasPrefix(s, "\x1b["):
			end := strings.IndexFunc(s[2:], func(r rune) bool { return r >= '@' && r <= '~' }) + 2
			if end < 2 {
				g.t.Fatalf("a sequence without an end: %q", s)
			}
			g.sequence(s[2:end], s[end])
			s = s[end+1:]
		case s[0] == '\n': // the line discipline of a terminal makes it CR LF
			g.x = 0
			g.down()
			s = s[1:]
		case s[0] == '\r':
			g.x, s = 0, s[1:]
		case s[0] < ' ':
			g.t.Fatalf("a control character: %q", s[:1])
		default:
			r, size := utf8.DecodeRuneInString(s)
			g.put(s[:size], gridCells(r))
			s = s[size:]
		}
	}
}

func (g *grid) down() {
	if g.y++; g.y == len(g.rows) {
		g.rows = append(g.rows, gridRow{})
	}
}

func (g *grid) sequence(args string, final byte) {
	switch {
	case final == 'A':
		n, err := strconv.Atoi(args)
		if err != nil {
			g.t.Fatalf("CSI %s A", args)
		}
		g.y = max(g.top(), g.y-n)
	case final == 'K' && args == "":
		row := &g.rows[g.y]
		row.cells, row.broken = row.cells[:min(g.x, len(row.cells))], false
	case final == 'J' && args == "":
		if g.y == g.top() && g.x == 0 && len(g.rows) > g.y+1 {
			g.t.Fatal("the whole screen is cleared: tmux keeps what was there above it")
		}
		g.sequence("", 'K')
		g.rows = g.rows[:g.y+1]
	case final == 'm':
	case args == "?7" && (final == 'h' || final == 'l'):
		g.wrap = final == 'h'
	default:
		g.t.Fatalf("a sequence that nobody may send: CSI %s %c", args, final)
	}
}

func (g *grid) put(char string, width int) {
	if width == 0 {
		return
	}
	if g.x+width > g.width {
		if !g.wrap {
			g.x = g.width - width
		} else {
			g.rows[g.y].broken = true
			g.x = 0
			g.down()
		}
	}
	row := &g.rows[g.y]
	for len(row.cells) < g.x+width {
		row.cells = append(row.cells, " ")
	}
	row.cells[g.x] = char
	for i := 1; i < width; i++ {
		row.cells[g.x+i] = ""
	}
	g.x += width
}

// resize breaks the lines anew, as tmux and most terminals do. The cursor stays in its line.
func (g *grid) resize(width, height int) {
	old, at := g.rows, 0
	g.rows, g.width, g.height = nil, width, height
	for i := 0; i < len(old); i++ {
		line, with := old[i].cells, i == g.y
		for old[i].broken {
			i++
			line, with = append(line, old[i].cells...), with || i == g.y
		}
		for len(line) > width {
			end := width
			if line[end] == "" { // half of a wide character
				end--
			}
			g.rows = append(g.rows, gridRow{line[:end:end], true})
			line = line[end:]
		}
		g.rows = append(g.rows, gridRow{line, false})
		if with {
			at = len(g.rows) - 1
		}
	}
	g.y = at
}

// text is all that can be read, also by scrolling up.
func (g *grid) text() []string {
	var lines []string
	text := ""
	for _, row := range g.rows {
		text += strings.Join(row.cells, "")
		if !row.broken {
			lines, text = append(lines, strings.TrimRight(text, " ")), ""
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// gridCells is how wide the characters of the tests are.
func gridCells(r rune) int {
	switch {
	case r >= 0x300 && r < 0x370, r == 0x200d, r == 0xfe0f:
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xff00 && r <= 0xff60, r >= 0x1f300 && r <= 0x1faff:
		return 2
	}
	return 1
}
