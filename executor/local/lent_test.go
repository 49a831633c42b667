package local

import (
	"context"
	"io"
	"syscall"
	"testing"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source"
	"github.com/forge-build/forge/source/sourcetest"
)

// A linksLender lends a build file, a file "a" and another name of it, "b". It is its own loan.
type linksLender struct{ next int }

func (l *linksLender) Lend(context.Context, string, source.Filter) (source.Loan, error) {
	return &linksLender{}, nil
}

func (l *linksLender) Key(string) string { return "" }

func (l *linksLender) Next() (string, filetree.Entry, error) {
	l.next++
	e := filetree.Entry{Mode: syscall.S_IFREG | 0o644, Size: 1, ModTime: sourcetest.Time}
	switch l.next {
	case 1:
		return "Dockerfile", e, nil
	case 2:
		return "a", e, nil
	case 3:
		e.Link = "a"
		return "b", e, nil
	}
	return "", e, io.EOF
}

func (l *linksLender) Fetch(_ context.Context, _ int, w io.Writer) error {
	_, err := io.WriteString(w, "1")
	return err
}

func (l *linksLender) Close() error { return nil }

// TestCopyLentLinks holds that names of one file in a lent directory are names of one file in the layer.
func TestCopyLentLinks(t *testing.T) {
	t.Parallel()
	w := testLocal(t)
	s, err := source.Open(t.Context(), source.Spec{
		Context: source.LentPrefix + "d", File: source.LentPrefix + "d/Dockerfile", Lender: &linksLender{}, Store: source.Store{Layout: w.Layout},
	})
	check(t, err)
	defer s.Close() //nolint:errcheck
	w.Inputs.Contexts[""] = s.Trees[""]
	got, _, _ := runCopy(t, w, executor.Job{}, testCopy(t, "COPY . /t"))
	if want := "t/; t/Dockerfile =1; t/a =1 #1; t/b =1 #1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
