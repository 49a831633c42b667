package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

func open(t testing.TB) *Steps {
	t.Helper()
	s, err := OpenSteps(filepath.Join(t.TempDir(), "a/cache"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keyOf(fields ...Field) Key {
	var h Hash
	for _, f := range fields {
		h.Field(f.Name, f.Values...)
	}
	return h.Key()
}

func entry(name string, size int64, fields ...Field) Entry {
	d := digest.FromString(name + fmt.Sprint(size))
	return Entry{
		Layer:    image.Layer{Blob: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: size}, DiffID: d},
		Created:  time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC),
		Duration: time.Second,
		Name:     name,
		Fields:   fields,
	}
}

func put(t testing.TB, s *Steps, k Key, e Entry) {
	t.Helper()
	if err := s.Put(t.Context(), k, e); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s *Steps, k Key) (Entry, bool) {
	t.Helper()
	e, ok, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return e, ok
}

func TestHash(t *testing.T) {
	t.Parallel()
	// A key is on disk, and in other machines' caches: it may not change unawares.
	if got, want := keyOf(Field{"run", []string{"a", "b"}}, Field{"dir", nil}).String(), "6e6d2bf2f4a5d40a785695a4ca7a0b635db30ddfc9877b5d50ad922ba91883c3"; got != want {
		t.Errorf("key = %s, want %s", got, want)
	}
	different := [][]Field{
		nil,
		{{"", nil}},
		{{"", []string{""}}},
		{{"a", nil}},
		{{"a", []string{""}}},
		{{"a", []string{"b"}}},
		{{"a", []string{"b", ""}}},
		{{"a", []string{"", "b"}}},
		{{"ab", nil}},
		{{"a", nil}, {"b", nil}},
		{{"b", nil}, {"a", nil}},
		{{"a", []string{"b"}}, {"c", nil}},
		{{"a", []string{"b", "c"}}},
		{{"a", []string{"bc"}}},
	}
	seen := map[Key]int{}
	for i, fields := range different {
		k := keyOf(fields...)
		if j, ok := seen[k]; ok {
			t.Errorf("%v and %v have one key", different[j], fields)
		}
		seen[k] = i
	}
	var h Hash
	h.Field("a", "b")
	before := h.Key()
	if h.Key() != before {
		t.Error("Key changes the hash")
	}
	values := []string{"x"}
	h.Field("c", values...)
	values[0] = "y"
	if got := h.Fields(); h.Key() == before || !reflect.DeepEqual(got, []Field{{"a", []string{"b"}}, {"c", []string{"x"}}}) {
		t.Errorf("fields = %v", got)
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	k := keyOf(Field{"a", nil})
	if got, err := ParseKey(k.String()); err != nil || got != k {
		t.Errorf("ParseKey(%s) = %s, %v", k, got, err)
	}
	for _, s := range []string{"", "x", strings.ToUpper(k.String()), k.String()[1:], k.String() + "00", "../" + k.String()} {
		if _, err := ParseKey(s); err == nil {
			t.Errorf("ParseKey(%q) succeeded", s)
		}
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	s := open(t)
	f := Field{"run", []string{"make\x00<&>\xff"}} // what is no UTF-8 comes back changed, and is found all the same
	k, e := keyOf(f), entry("RUN make", 5, Field{"run", []string{"make"}})
	if _, ok := get(t, s, k); ok {
		t.Error("Get from an empty store")
	}
	put(t, s, k, entry("RUN old", 1, f))
	put(t, s, k, e)
	if got, ok := get(t, s, k); !ok || !reflect.DeepEqual(got, e) {
		t.Errorf("Get = %+v, %v, want %+v", got, ok, e)
	}
	info, err := os.Stat(s.path(k))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := s.Remove(k, keyOf()); err != nil {
		t.Error(err)
	}
	if _, ok := get(t, s, k); ok {
		t.Error("Get after Remove")
	}
}

func TestDamagedEntryIsAMiss(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	s := open(t)
	k, other := keyOf(Field{"a", nil}), keyOf(Field{"b", nil})
	put(t, s, k, entry("x", 5, Field{"run", []string{"make"}}))
	whole, err := os.ReadFile(s.path(k))
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		os.WriteFile(s.path(k), whole[:n], 0o600)
		if _, ok := get(t, s, k); ok {
			t.Fatalf("the first %d of %d bytes are a hit", n, len(whole))
		}
	}
	for n := range whole {
		flipped := append([]byte(nil), whole...)
		flipped[n] ^= 1
		os.WriteFile(s.path(k), flipped, 0o600)
		if e, ok := get(t, s, k); ok && e.Layer.DiffID != entry("x", 5).Layer.DiffID {
			t.Fatalf("byte %d flipped is a hit", n)
		}
	}
	os.WriteFile(s.path(other), whole, 0o600)
	if _, ok := get(t, s, other); ok {
		t.Error("another key's entry is a hit")
	}
	os.Mkdir(s.path(keyOf(Field{"dir", nil})), 0o700)
	if _, ok := get(t, s, keyOf(Field{"dir", nil})); ok {
		t.Error("a directory is a hit")
	}
	os.WriteFile(s.path(k), nil, 0o600)
	if list, err := s.List(); err != nil || slices.ContainsFunc(list, func(r Record[Entry]) bool { return r.Key == k }) {
		t.Errorf("an empty file, as a power cut leaves it, is listed: %v, %v", list, err)
	}
	put(t, s, k, entry("x", 5))
	if _, ok := get(t, s, k); !ok {
		t.Error("a damaged entry is not replaced")
	}
}

// TestWritten holds that whoever makes entries durable is told of each that is at its place.
func TestWritten(t *testing.T) {
	t.Parallel()
	s := open(t)
	var told []string
	s.Written = func(path string) {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		told = append(told, path)
	}
	put(t, s, keyOf(Field{"a", nil}), entry("x", 5))
	if len(told) != 1 || told[0] != s.path(keyOf(Field{"a", nil})) {
		t.Errorf("told of %q", told)
	}
}

func TestConcurrentPut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := keyOf(Field{"a", nil})
	var wg sync.WaitGroup
	for g := range 4 {
		s, err := OpenSteps(dir, nil) // each stands for a process
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for i := range 100 {
				if err := s.Put(t.Context(), k, entry(strings.Repeat("x", 1+i*g), 1)); err != nil {
					t.Error(err)
				}
				if _, ok := get(t, s, k); !ok {
					t.Error("miss of an entry that is there")
				}
			}
		})
	}
	wg.Wait()
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, test := range []struct {
		name   string
		policy PrunePolicy
		want   string // names that go
	}{
		{"all", PrunePolicy{}, "a b c d"},
		{"until", PrunePolicy{Before: now.Add(-90 * time.Minute)}, "a b"},
		{"size", PrunePolicy{MaxSize: 70}, "a"},
		{"a shared layer counts once and goes last", PrunePolicy{MaxSize: 40}, "a b c"},
		{"everything fits", PrunePolicy{MaxSize: 100}, ""},
		{"nothing fits", PrunePolicy{MaxSize: 1}, "a b c d"},
		{"own sizes", PrunePolicy{MaxSize: 2, Size: func(Entry) int64 { return 1 }}, "a"},
		{"both, of which the time protects", PrunePolicy{Before: now.Add(-90 * time.Minute), MaxSize: 40}, "a b"},
		{"both, of which the size protects", PrunePolicy{Before: now.Add(-90 * time.Minute), MaxSize: 70}, "a"},
		{"both, and nothing is old", PrunePolicy{Before: now.Add(-90 * time.Hour), MaxSize: 1}, ""},
	} {
		s := open(t)
		for i, e := range []Entry{entry("a", 30), entry("b", 40), entry("c", 30), entry("b", 40)} {
			e.Name = string(rune('a' + i))
			k := keyOf(Field{e.Name, nil})
			put(t, s, k, e)
			used := now.Add(time.Duration(i-4) * time.Hour).Add(time.Hour)
			os.Chtimes(s.path(k), time.Time{}, used)
		}
		gone, err := s.Prune(test.policy)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		var names []string
		for _, r := range gone {
			names = append(names, r.Value.Name)
			if _, ok := get(t, s, r.Key); ok {
				t.Errorf("%s: %s is still there", test.name, r.Value.Name)
			}
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%s: %s went, want %s", test.name, got, test.want)
		}
		if rest, _ := s.List(); len(rest)+len(gone) != 4 {
			t.Errorf("%s: %d stayed", test.name, len(rest))
		}
	}
}

func TestGetMarksUse(t *testing.T) {
	t.Parallel()
	s := open(t)
	old := time.Now().Add(-48 * time.Hour)
	used, unused := keyOf(Field{"used", nil}), keyOf(Field{"unused", nil})
	for _, k := range []Key{used, unused} {
		put(t, s, k, entry("x", 1))
		os.Chtimes(s.path(k), time.Time{}, old)
	}
	get(t, s, used)
	gone, err := s.Prune(PrunePolicy{Before: time.Now().Add(-time.Hour)})
	if err != nil || len(gone) != 1 || gone[0].Key != unused {
		t.Errorf("Prune = %v, %v, want the one that was not used", gone, err)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	s := open(t)
	litter := filepath.Join(s.dir, ".tmp-123")
	os.WriteFile(litter, nil, 0o600)
	put(t, s, keyOf(), entry("x", 1))
	if all, err := s.List(); err != nil || len(all) != 1 {
		t.Errorf("List = %v, %v", all, err)
	}
	if err := s.Sweep(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(litter); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("litter: %v", err)
	}
	if _, ok := get(t, s, keyOf()); !ok {
		t.Error("Sweep took an entry")
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	s := open(t)
	field := func(name, value string) Field { return Field{name, []string{value}} }
	ask := []Field{field("run", "make"), field("env", "A=1"), field("dir", "/")}
	if _, ok, _ := s.Nearest(t.Context(), "RUN make", ask); ok {
		t.Error("Nearest in an empty store")
	}
	for i, e := range []Entry{
		entry("RUN cmake", 1, field("run", "cmake"), field("env", "A=1"), field("dir", "/"), field("below", "x")),
		entry("COPY a", 2, field("run", "make"), field("env", "A=1"), field("dir", "/")),
		entry("RUN make", 3, field("run", "make"), field("env", "A=2"), field("dir", "/")),
		entry("RUN make", 4, field("run", "make"), field("env", "A=3"), field("dir", "/")),
		entry("RUN make", 5, field("run", "make"), field("env", "A=1"), field("dir", "/x"), field("below", "x")),
		entry("RUN make", 6),
		entry("", 7, ask...),
	} {
		e.Created = e.Created.Add(time.Duration(10-i) * time.Hour)
		put(t, s, keyOf(Field{fmt.Sprint(i), nil}), e)
	}
	for _, test := range []struct {
		name   string
		fields []Field
		want   int64 // size of the layer; 0 is none
	}{
		{"RUN make", ask, 3}, // as near as 4 and 5, and newer
		{"RUN make", []Field{field("env", "A=3")}, 4},
		{"RUN make", nil, 3},
		{"RUN cmake ..", append(ask[1:3:3], field("below", "x")), 1},
		{"RUN cmake ..", append(ask[1:3:3], field("below", "y")), 0}, // it is in another place
		{"RUN cmake ..", ask[1:], 0},
		{"RUN other", []Field{field("nothing", "shared")}, 0},
		{"ADD b", ask, 0},
	} {
		e, ok, err := s.Nearest(t.Context(), test.name, test.fields)
		if err != nil || ok != (test.want > 0) || e.Layer.Blob.Size != test.want {
			t.Errorf("Nearest(%q, %v) = %d, %v, want %d", test.name, test.fields, e.Layer.Blob.Size, ok, test.want)
		}
	}
	put(t, s, keyOf(Field{"later", nil}), entry("ADD b", 8))
	if e, ok, _ := s.Nearest(t.Context(), "ADD b", ask); !ok || e.Layer.Blob.Size != 8 {
		t.Error("Nearest misses an entry put after it was first asked")
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	const d1, d2 = "sha256:1111", "sha256:2222"
	for _, test := range []struct {
		name     string
		old, new []Field
		want     string
	}{
		{"nothing", []Field{{"run", []string{"a"}}}, []Field{{"run", []string{"a"}}}, ""},
		{"env", []Field{{"env", []string{"PATH=/bin", "A=1", "B=2"}}}, []Field{{"env", []string{"PATH=/sbin", "A=1", "C=x=y"}}}, `env PATH: "/bin" → "/sbin"; env C is new: "x=y"; env B is gone, it was "2"`},
		{"empty env", []Field{{"env", []string{"A=1", "B="}}}, []Field{{"env", []string{"A=", "C="}}}, `env A: "1" → ""; env C is new; env B is gone`},
		{"secret env", []Field{{"env", []string{"MY_TOKEN=1", "KEYBOARD=us", "API_KEY=2"}}}, []Field{{"env", []string{"MY_TOKEN=2", "KEYBOARD=de", "password=3"}}}, `env MY_TOKEN has another value, which is not shown; env KEYBOARD: "us" → "de"; env password is new; env API_KEY is gone`},
		{"order of env", []Field{{"env", []string{"A=1", "B=2"}}}, []Field{{"env", []string{"B=2", "A=1"}}}, "env has another order"},
		{"command", []Field{{"run", []string{"/bin/sh", "-c", "make"}}}, []Field{{"run", []string{"/bin/sh", "-c", "make all"}}}, `command: "make" → "make all"`},
		{"exec form", []Field{{"run", []string{"make", "x"}}}, []Field{{"run", []string{"make", "y"}}}, `command: "make x" → "make y"`},
		{"long command", []Field{{"run", []string{strings.Repeat("é", 90)}}}, []Field{{"run", []string{"x"}}}, `command: "` + strings.Repeat("é", 80) + `"… → "x"`},
		{"files", []Field{{"files /src", []string{d1}}}, []Field{{"files /src", []string{d2}}}, "file /src: sha256:1111 → sha256:2222"},
		{"below", []Field{{"below", []string{d1}}}, []Field{{"below", []string{d2}}}, "below: sha256:1111 → sha256:2222"},
		{"a value", []Field{{"user", []string{"a"}}}, []Field{{"user", []string{"b"}}}, `user: "a" → "b"`},
		{"values", []Field{{"mount 0", []string{"bind", "/a"}}}, []Field{{"mount 0", []string{"bind", "/b"}}}, `mount 0: "bind /a" → "bind /b"`},
		{"new and gone", []Field{{"chown", []string{"1:1"}}}, []Field{{"chmod", []string{"644"}}, {"file a", []string{d1}}}, `chmod is new: "644"; file a is new: sha256:1111; chown is gone, it was "1:1"`},
		{"one of two with one name", []Field{{"source", []string{"a"}}, {"source", []string{"b"}}}, []Field{{"source", []string{"b"}}, {"source", []string{"c"}}}, `source: "a" → "c"`},
		{"a third", []Field{{"source", []string{"a"}}}, []Field{{"source", []string{"a"}}, {"source", []string{"a"}}}, `source is new: "a"`},
	} {
		why := event.Why{Reason: event.Changed, Changes: Diff(test.old, test.new)}
		if got := strings.Join(why.Lines(), "; "); got != test.want {
			t.Errorf("%s: Diff = %s, want %s", test.name, got, test.want)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b)
	k := keyOf(Field{"a", nil})
	put(b, s, k, entry("RUN make", 1, Field{"run", []string{"/bin/sh", "-c", "make"}}, Field{"env", []string{"PATH=/usr/bin:/bin", "HOME=/root"}}))
	for b.Loop() {
		if _, ok := get(b, s, k); !ok {
			b.Fatal("miss")
		}
	}
}

func TestStoreLimitAndKeep(t *testing.T) {
	s, err := OpenStore[string](t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	keys := []Key{{1}, {2}, {3}}
	for i, k := range keys {
		if err := s.Put(t.Context(), k, strings.Repeat("v", 100)); err != nil {
			t.Fatal(err)
		}
		used := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(s.path(k), used, used); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Touch(keys[0]) || s.Touch(Key{4}) {
		t.Error("Touch: the first key is there, and the fourth is not")
	}
	if err := s.Limit(400); err != nil {
		t.Fatal(err)
	}
	if s.Touch(keys[1]) || !s.Touch(keys[0]) || !s.Touch(keys[2]) {
		t.Error("Limit forgot others than the least recently used value")
	}
	if err := s.Keep(map[Key]bool{keys[2]: true}); err != nil {
		t.Fatal(err)
	}
	if s.Touch(keys[0]) || !s.Touch(keys[2]) {
		t.Error("Keep forgot others than what is not to be kept")
	}
}
