package executor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

func TestFinish(t *testing.T) {
	t.Parallel()
	at := func(sec int64) *time.Time { u := time.Unix(sec, 0).UTC(); return &u }
	// A history is written as one letter an entry: L makes a layer, e does not.
	history := func(s string) (h []ocispec.History) {
		for _, c := range s {
			h = append(h, ocispec.History{EmptyLayer: c == 'e'})
		}
		return h
	}
	for _, test := range []struct {
		name    string
		base    string // the base's history, at 1, 2, 3 …; "-" has no base
		own     string
		steps   []int64 // when their layers were made
		epoch   *time.Time
		want    string // times of the history
		created string
	}{
		{"layers and others", "-", "LeeL", []int64{10, 20}, nil, "10 10 10 20", "20"},
		{"begins with none", "-", "eeLe", []int64{10}, nil, "10 10 10 10", "10"},
		{"no layer at all", "-", "e", nil, nil, "none", "none"},
		{"on a base", "Le", "eLe", []int64{10}, nil, "1 2 2 10 10", "10"},
		{"only the base", "Le", "", nil, nil, "1 2", "99"},
		{"base without history", "", "LeL", []int64{20}, nil, "99 99 20", "20"},
		{"epoch", "Le", "eLe", []int64{10}, at(7), "1 2 7 7 7", "7"},
		{"epoch, no layer", "-", "e", nil, at(7), "7", "7"},
	} {
		var g graphMaker
		var on *planner.Step
		config := image.Config{}
		config.Created = at(99)
		if test.base == "-" {
			config.Created = nil
		} else {
			img := &image.Image{}
			img.Config.History = history(test.base)
			for i := range img.Config.History {
				img.Config.History[i].Created = at(int64(i + 1))
			}
			config.History = append(config.History, img.Config.History...)
			on = g.add(&planner.Base{Image: img}, nil)
		}
		config.History = append(config.History, history(test.own)...)
		planned := fmt.Sprint(times(config.History))
		created := make([]time.Time, 10)
		for _, sec := range test.steps {
			on = g.run("x", on)
			created[on.Index] = *at(sec)
		}
		before := config
		finish(&config, on, created, test.epoch)
		if got := times(config.History); got != test.want {
			t.Errorf("%s: history at %s, want %s", test.name, got, test.want)
		}
		if got := times([]ocispec.History{{Created: config.Created}}); got != test.created {
			t.Errorf("%s: created at %s, want %s", test.name, got, test.created)
		}
		if fmt.Sprint(times(before.History)) != planned {
			t.Errorf("%s: the graph's history was written to", test.name)
		}
	}
}

func times(history []ocispec.History) string {
	var s []string
	for _, h := range history {
		if h.Created == nil {
			s = append(s, "none")
			continue
		}
		s = append(s, fmt.Sprint(h.Created.Unix()))
	}
	return strings.Join(s, " ")
}
