package remote

import (
	"bytes"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
)

// A Record is an answer as it travels: a layer, or a value about files of layers (source.Resolver remembers those).
type Record struct {
	Key   cache.Key
	Layer image.Layer // as the place has it; zero for a value
	Value string      // at most maxValue bytes; "" for a layer

	Name    string        // of the step, for people
	Created time.Time     // of the layer, to the microsecond: images have it in their history
	Cost    time.Duration // what the step took
	Used    Day           // when a build last made use of it
}

// A Day is a number of days since 2020. Which builds use a record is told no more closely: it decides only what is forgotten.
type Day uint16

// today is the day of a time.
func today(t time.Time) Day {
	return Day(max(0, t.Sub(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))/(24*time.Hour)))
}

// Time is when the day begins.
func (d Day) Time() time.Time { return time.Date(2020, 1, 1+int(d), 0, 0, 0, 0, time.UTC) }

// IsValue reports whether a record says something of files of layers, and names no layer itself.
func (r *Record) IsValue() bool { return r.Layer.DiffID == "" }

// entry is a record of a layer as what asks a cache knows it.
func (r *Record) entry() cache.Entry {
	return cache.Entry{Layer: r.Layer, Created: r.Created, Duration: r.Cost, Name: r.Name}
}

// newer reports whether of two records of a key a is to be kept: the one that was made later or, of the same answer, used later.
func newer(a, b *Record) bool {
	if !a.Created.Equal(b.Created) {
		return a.Created.After(b.Created)
	}
	return a.Used > b.Used
}

// merge makes one sorted list of several, with one record for each key.
func merge(lists ...[]Record) []Record {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b Record) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	var out []Record
	for i := range all {
		last := len(out) - 1
		switch {
		case last < 0 || out[last].Key != all[i].Key:
			out = append(out, all[i])
		case newer(&all[i], &out[last]):
			out[last] = all[i]
		}
	}
	return out
}

// blobs lists the layers of records, each once, in the order of the records.
func blobs(records []Record) []image.Layer {
	var all []image.Layer
	seen := map[string]bool{}
	for i := range records {
		if l := records[i].Layer; l.DiffID != "" && !seen[string(l.Blob.Digest)] {
			seen[string(l.Blob.Digest)] = true
			all = append(all, l)
		}
	}
	return all
}

// mediaTypes are the forms of layers that travel, by the number that a table has for them.
func mediaTypes() []string {
	return []string{"", ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd}
}
