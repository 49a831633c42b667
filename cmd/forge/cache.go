package main

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

type cacheCmd struct {
	LS      cacheLSCmd      `cmd:"" name:"ls" aliases:"list" help:"List what a repository keeps, by scope."`
	Inspect cacheInspectCmd `cmd:"" help:"List the answers and cache mounts of a scope."`
	Push    cachePushCmd    `cmd:"" help:"Keep in a scope what this machine remembers."`
	Pull    cachePullCmd    `cmd:"" help:"Bring the answers of a scope to this machine, with their layers."`
	Prune   cachePruneCmd   `cmd:"" help:"Forget answers of a scope that no build has used for 30 days."`
}

// sharedCacheFlags are forge.SharedCacheOptions as flags.
type sharedCacheFlags struct {
	Repo       string `arg:"" help:"REPOSITORY[:SCOPE], grpc[s]://SERVER, or type=local|gha|s3,… as for build." placeholder:"REPO"`
	CacheScope string `help:"Scope; the branch's if neither this nor the name says." placeholder:"SCOPE"`
	CacheKey   string `help:"Sign what is written with an ed25519 key, PEM." type:"path" env:"FORGE_CACHE_KEY" placeholder:"FILE"`
	CacheTrust string `help:"Believe only what one of these public keys, PEM, has signed." type:"path" env:"FORGE_CACHE_TRUST" placeholder:"FILE"`
	remoteFlags
	forge.ServerOptions
}

// options returns what the place is asked with, and what to close when it is done.
func (f *sharedCacheFlags) options(s *session) (forge.SharedCacheOptions, func()) {
	remote, done := f.remoteFlags.options(s)
	remote.Servers = f.ServerOptions
	remote.Servers.Version = versionText()
	return forge.SharedCacheOptions{RemoteOptions: remote, Scope: f.CacheScope, Key: f.CacheKey, Trust: f.CacheTrust}, done
}

type cacheLSCmd struct {
	sharedCacheFlags
	Format string `help:"table or json." enum:"table,json" default:"table" placeholder:"FORMAT"`
}

func (c *cacheLSCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		o, done := c.options(s)
		all, err := h.SharedCaches(s.ctx, c.Repo, o)
		done()
		if err != nil {
			return err
		}
		if c.Format == "json" {
			return json.NewEncoder(jsonWriter{s.out}).Encode(all)
		}
		w := tabwriter.NewWriter(s.out, 10, 1, 3, ' ', 0)
		_, _ = fmt.Fprintln(w, "SCOPE\tANSWERS\tLAYERS\tSIZE\tINDEX\tWRITTEN")
		for _, i := range all {
			_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", clean(i.Scope), i.Records, i.Layers, size(i.Bytes), size(int64(i.Index)), ago(i.Written))
		}
		kept := []forge.SharedMount{}
		for _, i := range all {
			kept = append(kept, i.Mounts...)
		}
		listMounts(w, kept)
		return w.Flush()
	})
}

// listMounts lists cache mounts below what was listed, if there are any.
func listMounts(w *tabwriter.Writer, kept []forge.SharedMount) {
	if len(kept) == 0 {
		return
	}
	_, _ = fmt.Fprint(w, "\nCACHE MOUNT\tSCOPE\tPLATFORM\tFILES\tPACKED\tWRITTEN\n")
	for _, m := range kept {
		files := "N/A"
		if m.Size > 0 {
			files = size(m.Size)
		}
		id := m.ID
		if m.Locked {
			id += " (by lock file)"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", clean(id), clean(m.Scope), clean(m.Platform), files, size(m.Packed), ago(m.Written))
	}
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}

type cacheInspectCmd struct {
	sharedCacheFlags
	Format string `help:"table or json." enum:"table,json" default:"table" placeholder:"FORMAT"`
}

// cachedAnswer is an answer as JSON has it.
type cachedAnswer struct {
	Key     string        `json:"key"`
	Name    string        `json:"name,omitempty"`
	DiffID  string        `json:"diffID,omitempty"`
	Blob    string        `json:"blob,omitempty"`
	Size    int64         `json:"size,omitempty"`
	Value   string        `json:"value,omitempty"`
	Created time.Time     `json:"created,omitzero"`
	Cost    time.Duration `json:"cost,omitempty"`
	Used    string        `json:"used"` // day
}

func (c *cacheInspectCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		o, done := c.options(s)
		info, records, err := h.SharedCache(s.ctx, c.Repo, o)
		done()
		if err != nil {
			return err
		}
		slices.SortStableFunc(records, func(a, b forge.SharedAnswer) int {
			return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Name, b.Name))
		})
		if c.Format == "json" {
			answers := []cachedAnswer{}
			for _, r := range records {
				a := cachedAnswer{
					Key: hex.EncodeToString(r.Key[:]), Name: r.Name, DiffID: r.Layer.DiffID.String(), Blob: r.Layer.Blob.Digest.String(),
					Size: r.Layer.Blob.Size, Value: r.Value, Cost: r.Cost, Used: r.Used.Time().Format(time.DateOnly),
				}
				if !r.IsValue() {
					a.Created = r.Created
				}
				answers = append(answers, a)
			}
			return json.NewEncoder(jsonWriter{s.out}).Encode(map[string]any{"scope": info, "answers": answers, "mounts": append([]forge.SharedMount{}, info.Mounts...)})
		}
		w := tabwriter.NewWriter(s.out, 10, 1, 3, ' ', 0)
		_, _ = fmt.Fprintln(w, "LAYER\tSIZE\tTOOK\tCREATED\tUSED\tSTEP")
		values := 0
		for _, r := range records {
			if r.IsValue() {
				values++
				continue
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", shortID(r.Layer.DiffID.String()), size(r.Layer.Blob.Size),
				r.Cost.Round(100*time.Millisecond), ago(r.Created), r.Used.Time().Format(time.DateOnly), clean(r.Name))
		}
		_, _ = fmt.Fprintf(w, "\nscope %s: %d layers, %d digests of files in layers\n", clean(info.Scope), info.Layers, values)
		listMounts(w, info.Mounts)
		return w.Flush()
	})
}

type cachePushCmd struct {
	sharedCacheFlags
	forge.CompressionOptions
}

func (c *cachePushCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		o, done := c.options(s)
		o.CompressionOptions = c.CompressionOptions
		n, err := h.PushCache(s.ctx, c.Repo, o)
		done()
		if err == nil {
			_, _ = fmt.Fprintln(s.out, "Pushed answers:", n)
		}
		return err
	})
}

type cachePullCmd struct{ sharedCacheFlags }

func (c *cachePullCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		o, done := c.options(s)
		n, err := h.PullCache(s.ctx, c.Repo, o)
		done()
		if err == nil {
			_, _ = fmt.Fprintln(s.out, "Pulled answers:", n)
		}
		return err
	})
}

type cachePruneCmd struct {
	sharedCacheFlags
	All     bool     `short:"a" help:"All answers and cache mounts."`
	Force   bool     `short:"f" help:"Do not ask."`
	Filter  []string `help:"until=DURATION: only answers not used and cache mounts not written since." placeholder:"KEY=VALUE"`
	MaxSize string   `help:"Keep layers of this size; the cheapest to make go first. With until= only what was not used since goes." placeholder:"BYTES"`
}

func (c *cachePruneCmd) Run(s *session) error {
	if ok, err := confirmed(s, c.Force, "answers"+c.mounts()+" of the cache "+c.Repo+", for all who share it"); err != nil || !ok {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		o, done := c.options(s)
		p, err := h.PruneCache(s.ctx, c.Repo, forge.PruneCacheOptions{
			SharedCacheOptions: o, All: c.All, Prune: forge.PruneOptions{Filters: c.Filter, MaxSize: c.MaxSize},
		})
		done()
		if err == nil {
			_, _ = fmt.Fprintf(s.out, "Deleted answers: %d\nLayers that nothing leads to any more: %d, %s\n", p.Records, p.Layers, size(p.Bytes))
			if p.Mounts > 0 {
				_, _ = fmt.Fprintf(s.out, "Deleted cache mounts: %d, %s\n", p.Mounts, size(p.MountsBytes))
			}
		}
		return err
	})
}

// mounts says what goes beside answers.
func (c *cachePruneCmd) mounts() string {
	if c.All || len(c.Filter) > 0 {
		return " and cache mounts"
	}
	return ""
}

// clean makes one line, fit for a terminal, of what somebody has written to a place.
func clean(text string) string { return strings.Join(strings.Fields(ui.Lines(text)), " ") }
