package buildkit

import (
	"bytes"
	"strings"
	"testing"

	"github.com/forge-build/forge/event/solve"
)

// TestNews holds that a build that prints without end takes no memory without end, that who reads along misses nothing, and that who comes late is told.
func TestNews(t *testing.T) {
	t.Parallel()
	var n news
	line := bytes.Repeat([]byte("x"), 1<<10)
	const lines = 100_000
	seen, at := 0, 0
	n.add(&solve.Status{Vertexes: []*solve.Vertex{{Name: "step"}}})
	for range lines {
		n.add(&solve.Status{Logs: []solve.VertexLog{{Vertex: "step", Data: line}}})
		var fresh []numbered
		fresh, at = n.since(at)
		for _, s := range fresh {
			seen += len(s.Logs)
		}
	}
	n.add(&solve.Status{Vertexes: []*solve.Vertex{{Name: "step", Error: "failed"}}})
	if seen != lines {
		t.Errorf("who reads along sees %d lines of %d", seen, lines)
	}
	late, next := n.since(0)
	if held := len(late) * len(line); held > maxNews || held < maxNews/3 {
		t.Errorf("%d bytes are held, of at most %d", held, maxNews)
	}
	if len(late) < 3 || len(late[0].Vertexes) != 1 || len(late[1].Logs) != 1 || !strings.Contains(string(late[1].Logs[0].Data), "clipped") || len(late[len(late)-1].Vertexes) != 1 {
		t.Error("the states of steps are forgotten, or who comes late is not told that lines are")
	}
	if rest, _ := n.since(next); len(rest) != 0 {
		t.Errorf("after the end there are %d", len(rest))
	}
	for range lines {
		n.add(&solve.Status{Warnings: []solve.VertexWarning{{Short: line}}})
	}
	if late, _ = n.since(0); len(late)*len(line) > maxNews {
		t.Errorf("%d warnings are held, of %d bytes each", len(late), len(line))
	}
}
