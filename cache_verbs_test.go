package forge

import (
	"testing"

	"github.com/forge-build/forge/cache/remote"
)

// TestPruneCacheRetention holds that a prune of a shared cache forgets nothing that was used since the filter's time, and what is asked for else.
func TestPruneCacheRetention(t *testing.T) {
	t.Parallel()
	standard := remote.DefaultRetention()
	for _, test := range []struct {
		all          bool
		until, bytes string
		want         remote.Retention
	}{
		{want: standard},
		{until: "72h", want: remote.Retention{Unused: 3, Bytes: standard.Bytes}},
		{until: "36h", want: remote.Retention{Unused: 2, Bytes: standard.Bytes}},
		{until: "1h", want: remote.Retention{Unused: 1, Bytes: standard.Bytes}},
		{all: true, want: remote.Retention{Unused: -1, Bytes: standard.Bytes}},
		{all: true, until: "72h", want: remote.Retention{Unused: 3, Bytes: standard.Bytes}},
		{bytes: "1KB", want: remote.Retention{Unused: standard.Unused, Bytes: 1024}},
		{bytes: "0", until: "72h", want: remote.Retention{Unused: 3, Bytes: standard.Bytes}},
		{bytes: "1KB", until: "72h", want: remote.Retention{Unused: standard.Unused, Bytes: 1024, Kept: 3}},
		{bytes: "0", want: remote.Retention{Unused: -1, Bytes: standard.Bytes}},
	} {
		o := PruneCacheOptions{All: test.all, Prune: PruneOptions{MaxSize: test.bytes}}
		if test.until != "" {
			o.Prune.Filters = []string{"until=" + test.until}
		}
		if err := o.Prune.Check(); err != nil {
			t.Fatal(err)
		}
		if got := o.retention(); got != test.want {
			t.Errorf("-a %t, until %q, size %q: %+v, want %+v", test.all, test.until, test.bytes, got, test.want)
		}
	}
}
