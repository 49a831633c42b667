package source

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source/sourcetest"
)

const (
	commitA = "1111111111111111111111111111111111111111"
	sumA    = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// TestPins holds that what is pinned is not asked for, and that nothing but what was met is added.
func TestPins(t *testing.T) {
	file := `{"version":1,"images":{"docker.io/library/a:1":"docker.io/library/a@` + sumA + `"},
		"urls":{"https://example.invalid/f":{"digest":"` + sumA + `","size":3}},
		"repositories":{"https://example.invalid/r.git#main":{"id":"` + commitA + `","ref":"refs/heads/main"}}}`
	p, err := ParsePins([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	r := &Resolver{Pins: p}
	in, err := r.git(t.Context(), &Git{planner.GitRef{Remote: "https://user:secret@example.invalid/r.git", Ref: "main"}})
	if err != nil || in.Commit == nil || in.Commit.ID != commitA {
		t.Errorf("repository: %+v, %v", in, err)
	}
	checked := &Git{planner.GitRef{Remote: "https://example.invalid/r.git", Ref: "main", Checksum: "2222222"}}
	if _, err := r.git(t.Context(), checked); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a checksum that a pin does not have: %v", err)
	}
	if in, err = r.url(t.Context(), &planner.Copy{}, "https://example.invalid/f"); err != nil || string(in.Download.Digest) != sumA {
		t.Errorf("URL: %+v, %v", in, err)
	}
	if raw, changed, err := p.Bytes(); changed || err != nil {
		t.Errorf("nothing new was met: %s, %v", raw, err)
	}
	p.SetImage("docker.io/library/b:1", "docker.io/library/b@"+sumA)
	raw, changed, err := p.Bytes()
	var got pinned
	if jsonErr := json.Unmarshal(raw, &got); !changed || err != nil || jsonErr != nil || len(got.Images) != 2 || len(got.URLs) != 1 || got.Version != 1 {
		t.Errorf("%s, %v", raw, err)
	}
	p.Update()
	if to := p.Image("docker.io/library/a:1"); to != "" {
		t.Errorf("updated, and still pinned to %s", to)
	}
	var none *Pins
	none.SetImage("a", "b")
	if none.Image("a") != "" {
		t.Error("no pins pin")
	}
}

// TestPinsShowAlike holds that two URLs that differ only in what is not shown do not get one pin.
func TestPinsShowAlike(t *testing.T) {
	const shown = "https://example.invalid/q?key=xxxxx"
	p, err := ParsePins([]byte(`{"version":1,"urls":{"` + shown + `":{"digest":"` + sumA + `","size":3}}}`))
	must(t, err)
	r := &Resolver{Pins: p}
	for range 2 {
		if in, err := r.url(t.Context(), &planner.Copy{}, "https://example.invalid/q?key=a"); err != nil || string(in.Download.Digest) != sumA {
			t.Errorf("the one that was asked for first: %+v, %v", in, err)
		}
	}
	for _, other := range []string{"https://example.invalid/q?key=b", "https://u:p@example.invalid/q?key=a"} {
		if in, err := r.url(t.Context(), &planner.Copy{}, other); err == nil || !strings.Contains(err.Error(), shown+": the build reads two URLs") {
			t.Errorf("another: %+v, %v", in, err)
		}
		if in, err := r.url(t.Context(), &planner.Copy{Add: &planner.Add{Checksum: sumA}}, other); err != nil {
			t.Errorf("another, with a checksum: %+v, %v", in, err)
		}
	}
}

// TestPinsOfRefs holds that a checksum may be of the annotated tag also where the ref is pinned, and that a commit that is taken without
// asking where its ref is pins nothing.
func TestPinsOfRefs(t *testing.T) {
	repos := sourcetest.NewRepo(t)
	repos.Git("r.git", "init", "-q", "-b", "main")
	first := repos.Commit("r.git", "a=1")
	repos.Git("r.git", "tag", "-a", "-m", "x", "v1")
	tag := repos.Git("r.git", "rev-parse", "v1")
	second := repos.Commit("r.git", "a=2")
	remote := repos.URL + "r.git"
	pins := &Pins{}
	resolve := func(ref planner.GitRef) (string, error) {
		in, err := (&Resolver{Pins: pins}).git(t.Context(), &Git{ref})
		if err != nil {
			return "", err
		}
		return in.Commit.ID, nil
	}
	if got, err := resolve(planner.GitRef{Remote: remote, Ref: "main", Checksum: first, FetchByCommit: true}); got != first || err != nil {
		t.Errorf("a commit: %s, %v, want %s", got, err, first)
	}
	if got, err := resolve(planner.GitRef{Remote: remote, Ref: "main"}); got != second || err != nil {
		t.Errorf("the branch, after a commit that was said to be on it: %s, %v, want %s", got, err, second)
	}
	if got, err := resolve(planner.GitRef{Remote: remote, Ref: "main", Checksum: first, FetchByCommit: true}); got != first || err != nil {
		t.Errorf("the commit, after the branch: %s, %v, want %s", got, err, first)
	}
	if got, err := resolve(planner.GitRef{Remote: remote, Ref: second}); got != second || err != nil {
		t.Errorf("a commit: %s, %v, want %s", got, err, second)
	}
	v1 := planner.GitRef{Remote: remote, Ref: "v1", Checksum: tag}
	for _, state := range []string{"asked for", "pinned in this build", "pinned in the file"} {
		if got, err := resolve(v1); got != first || err != nil {
			t.Errorf("a tag, %s: %s, %v, want %s", state, got, err, first)
		}
		raw, _, err := pins.Bytes()
		must(t, err)
		if state == "pinned in this build" {
			pins, err = ParsePins(raw)
			must(t, err)
			repos.Git("r.git", "tag", "-d", "v1")
			if len(pins.have.Repositories) != 2 {
				t.Errorf("pinned: %s, want the branch and the tag", raw)
			}
		}
	}
	v1.Checksum = second
	if _, err := resolve(v1); err == nil || !strings.Contains(err.Error(), "got "+first+", as forge.lock has it (--update)") {
		t.Errorf("a checksum that the pin has not: %v", err)
	}
}

// TestTagOfChecksum holds that a checksum which is of a tag is held against the tag itself, since what the server or a file of pins says of
// it is only said.
func TestTagOfChecksum(t *testing.T) {
	repos := sourcetest.NewRepo(t)
	repos.Git("r.git", "init", "-q", "-b", "main")
	first := repos.Commit("r.git", "a=1")
	repos.Git("r.git", "tag", "-a", "-m", "x", "v1")
	tag := repos.Git("r.git", "rev-parse", "v1")
	second := repos.Commit("r.git", "a=2")
	_, layout := testStore(t)
	for _, test := range []struct{ commit, ref, want string }{
		{first, "refs/tags/v1", ""},
		{second, "refs/tags/v1", "is on commit " + first + " and not on " + second},
		{second, "refs/heads/main", second},
	} {
		pins, err := ParsePins(fmt.Appendf(nil, `{"version":1,"repositories":{"%sr.git#v1":{"id":%q,"ref":%q,"tag":%q}}}`, repos.URL, test.commit, test.ref, tag))
		must(t, err)
		g := Git{planner.GitRef{Remote: repos.URL + "r.git", Ref: "v1", Checksum: tag}}
		in, err := (&Resolver{Pins: pins}).git(t.Context(), &g)
		must(t, err)
		tree, err := g.Checkout(t.Context(), layout, *in.Commit)
		if err == nil {
			must(t, tree.Close())
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("the tag, said to be on %s: %v, want %q", test.commit, err, test.want)
		}
	}
}

// TestParsePins holds what is no file of pins: names and digests go into requests and paths.
func TestParsePins(t *testing.T) {
	for _, text := range []string{
		`[]`, `{}`, `{"version":2}`, `{"version":1,"images":{"a":"b"}}`, `{"version":1,"images":{"a":"b@sha256:../x"}}`,
		`{"version":1,"urls":{"u":{"digest":"md5:x","size":1}}}`, `{"version":1,"urls":{"u":{"digest":"` + sumA + `","size":-1}}}`,
		`{"version":1,"repositories":{"r":{"id":"--upload-pack=x"}}}`, `{"version":1,"repositories":{"r":{"id":"` + commitA + `","ref":"--x"}}}`,
		`{"version":1,"repositories":{"r":{"id":"` + commitA + `","tag":"--x"}}}`,
		`{"version":1,"images":{"\n::error::x":"b"}}`, `{"version":1,"urls":{"\n::error::x":{}}}`, `{"version":1,"repositories":{"\n::error::x":{}}}`,
	} {
		_, err := ParsePins([]byte(text))
		if err == nil {
			t.Errorf("%s was taken", text)
		} else if strings.Contains(err.Error(), "\n") { // a line of its own could be a command to a runner of CI
			t.Errorf("%s: the error has several lines: %v", text, err)
		}
	}
}
