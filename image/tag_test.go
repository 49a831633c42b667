package image

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/flock"
)

// TestTagAll names images together as one by one: a name that is taken moves, what had it stays without a name if it has
// no other, and who gets a name is not listed without one.
func TestTagAll(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	a, b, c := writeImage(t, l, "a"), writeImage(t, l, "b"), writeImage(t, l, "c")
	tag(t, l, "one", a)
	tag(t, l, "two", b)
	tag(t, l, "", c)
	var images []Named
	for i := range 20 {
		images = append(images, Named{Reference: mustParse(t, fmt.Sprintf("127.0.0.1:5000/n:%02d", i)), Descriptor: b.Descriptor})
	}
	images = append(images,
		Named{Reference: mustParse(t, "one"), Descriptor: c.Descriptor},
		Named{Reference: mustParse(t, "two"), Descriptor: a.Descriptor},
		Named{Reference: mustParse(t, "two"), Descriptor: c.Descriptor},
		Named{Descriptor: c.Descriptor},
	)
	if err := l.TagAll(t.Context(), images...); err != nil {
		t.Fatal(err)
	}
	l = openLayout(t, l.Root()) // as another process sees it
	all, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, n := range all {
		got[n.displayName()] = string(n.Descriptor.Digest)
	}
	want := map[string]string{
		"docker.io/library/one:latest": string(c.Descriptor.Digest), "docker.io/library/two:latest": string(c.Descriptor.Digest),
		Named{Descriptor: a.Descriptor}.displayName(): string(a.Descriptor.Digest),
	}
	for i := range 20 {
		want[fmt.Sprintf("127.0.0.1:5000/n:%02d", i)] = string(b.Descriptor.Digest)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("List = %v\nwant %v", got, want)
	}
	mustFsck(t, l, "")
}

// TestTagManyBesidePrune: who gives many names, for which a prune that has the store's lock waits, does not wait for that lock, whatever else this
// process has to publish.
func TestTagManyBesidePrune(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	img := writeImage(t, l, "x")
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	var images []Named
	for i := range 20 {
		images = append(images, Named{Reference: mustParse(t, fmt.Sprintf("n:%02d", i)), Descriptor: img.Descriptor, ID: img.ID()})
	}
	writeImage(t, l, "of another build")
	prune, err := flock.Lock(t.Context(), l.path("lock"), flock.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer prune.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := l.withNames(ctx, func() error { return l.tag(ctx, images) }); err != nil {
		t.Fatal(err)
	}
	if all, err := l.List(t.Context()); err != nil || len(all) != len(images) {
		t.Errorf("%d names, %v", len(all), err)
	}
}

// TestTagAllRefuses: one image that is not whole, and none is named.
func TestTagAllRefuses(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	a := writeImage(t, l, "a")
	gone := a.Descriptor
	gone.Digest = digA
	if err := l.TagAll(t.Context(), Named{Reference: mustParse(t, "one"), Descriptor: a.Descriptor}, Named{Reference: mustParse(t, "two"), Descriptor: gone}); err == nil {
		t.Error("an image was named that is not there")
	}
	if all, err := l.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("List = %v, %v", all, err)
	}
}
