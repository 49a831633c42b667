package image

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/forge-build/forge/event"
)

// TestArchivesReport holds that saving, loading and importing say which layers come and when they are done.
func TestArchivesReport(t *testing.T) {
	t.Parallel()
	var seen []string
	sink := func(e event.Event) {
		if e.Kind != event.Blob || e.Time.IsZero() || e.Total > 0 && e.Bytes > e.Total {
			t.Errorf("event %+v", e)
		}
		if IsLayer(e.Blob.MediaType) && e.Blob.State != event.Copying {
			seen = append(seen, fmt.Sprint(e.Blob.Digest, " ", e.Blob.State, " ", e.Bytes))
		}
	}
	want := func(what string, events ...string) {
		t.Helper()
		if !slices.Equal(seen, events) {
			t.Errorf("%s reported %q, want %q", what, seen, events)
		}
		seen = nil
	}
	l, l2 := openLayout(t, t.TempDir()), openLayout(t, t.TempDir())
	tar := rootTar()
	img, err := l.Import(t.Context(), bytes.NewReader(tar), Config{}, sink)
	if err != nil {
		t.Fatal(err)
	}
	layer := img.Layers()[0].DiffID.String()
	want("import", fmt.Sprint("file:tar done ", len(tar)))
	tag(t, l, "app", img)
	archive := save(t, l, SaveOptions{Events: sink}, "app")
	want("save", fmt.Sprint(layer, " done ", len(tar)))
	for _, state := range []string{fmt.Sprint("done ", len(tar)), "exists 0"} {
		if _, err := l2.Load(t.Context(), bytes.NewReader(archive), LoadOptions{Events: sink}); err != nil {
			t.Fatal(err)
		}
		want("load", layer+" "+state)
	}
}
