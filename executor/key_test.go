package executor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

func fieldsOf(t *testing.T, job Job, epoch *time.Time) (string, cache.Key) {
	t.Helper()
	job.Epoch = epoch
	h, err := job.Key()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range h.Fields() {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, strings.Join(f.Values, " | "))
	}
	return b.String(), h.Key()
}

// What a key holds is a promise: a field more makes everybody's cache useless once, a field less makes wrong images.
func TestKeyFields(t *testing.T) {
	t.Parallel()
	mode := uint32(0o440)
	yes := true
	epoch := time.Unix(1700000000, 0)
	below := []image.Layer{{DiffID: "sha256:aa"}, {DiffID: "sha256:bb"}}
	for _, test := range []struct {
		name  string
		job   Job
		epoch *time.Time
		want  string
	}{
		{"run", Job{On: below, Op: &planner.Run{
			Args: []string{"/bin/sh", "-c", "make"}, Env: []string{"PATH=/bin", "A=b"}, Proxy: []string{"http_proxy=x"},
			Dir: "/w", User: "me", Network: "none", Platform: "linux/amd64", Insecure: true,
			Files:   []planner.File{{Name: "EOF", Content: "#!/bin/sh\n"}},
			Devices: []planner.Device{{Name: "v/c=d", Required: true}}, Hostname: "h",
			Mounts: []planner.Mount{
				{Type: planner.Bind, Target: "/src", From: &planner.Input{Read: -1}, Source: "/a", ReadOnly: true},
				{Type: planner.Bind, Target: "/rw", From: &planner.Input{Read: 0}},
				{Type: planner.Cache, Target: "/c", ID: "go", Sharing: "locked", Access: planner.Access{Mode: &mode}, From: &planner.Input{Read: 0}},
				{Type: planner.Tmpfs, Target: "/t", Size: 7},
				{Type: planner.Secret, ID: "s", Target: "/run/secrets/s", Env: "S", Required: true, Access: planner.Access{Mode: &mode, UID: 3}},
				{Type: planner.SSH, ID: "default", Target: "/run/buildkit/ssh_agent.0"},
			},
		}}, nil, `format: 3
run: /bin/sh | -c | make
env: PATH=/bin | A=b
dir: /w
user: me
platform: linux/amd64
network: none
hostname: h
security: insecure
device: v/c=d
script: EOF | #!/bin/sh

mount 0: bind | /src
mount 1: bind | /rw | mode=rw
mount 2: cache | /c | id=go | permissions=440
mount 3: tmpfs | /t | size=7
mount 4: secret | /run/secrets/s | id=s | env=S | mode=440 | owner=3:0
mount 5: ssh | /run/buildkit/ssh_agent.0 | id=default | owner=0:0
below: sha256:b68ad689d6d1ec110ea1c13617437ad6f3766d4b3b309f6a603a222e07a0164f
`},
		{"mkdir", Job{On: below, Op: &planner.Mkdir{Path: "/w", User: "me"}}, &epoch, `format: 3
mkdir: /w
user: me
below: sha256:b68ad689d6d1ec110ea1c13617437ad6f3766d4b3b309f6a603a222e07a0164f
epoch: 1700000000
`},
		{"copy", Job{On: below, Op: &planner.Copy{
			From: planner.Input{Read: 0}, Sources: []planner.Source{{Path: "a*"}, {File: &planner.File{Name: "f", Content: "x"}}},
			Dest: "/d/", Chown: "me", Chmod: "u+x", Exclude: []string{"b"}, Parents: true,
		}}, nil, `format: 3
copy: /d/
source: a*
file: f | x
chown: me
chmod: u+x
exclude: b
parents: true
below: sha256:b68ad689d6d1ec110ea1c13617437ad6f3766d4b3b309f6a603a222e07a0164f
`},
		{"link stands on nothing", Job{On: below, Op: &planner.Copy{Dest: "/d", Link: true, Sources: []planner.Source{{Path: "a"}}}}, nil, `format: 3
copy: /d
source: a
link: true
`},
		{"add keeps no password", Job{Op: &planner.Copy{
			Dest: "/d", Add: &planner.Add{Unpack: &yes, Checksum: "sha256:cc"},
			Sources: []planner.Source{{URL: "https://me:secret@host/x"}, {Git: &planner.GitRef{Remote: "https://token@host/x.git", Ref: "v1", Dir: "d", Checksum: "ab", KeepGitDir: true, CommitTime: true}}},
		}}, nil, `format: 3
add: /d
url: https://host/x
git: https://host/x.git | v1 | d
checksum: ab
keep-git-dir: true
submodules: false
mtime: commit
unpack: true
checksum: sha256:cc
below: 
`},
	} {
		if got, _ := fieldsOf(t, test.job, test.epoch); got != test.want {
			t.Errorf("%s: fields are\n%s\nwant\n%s", test.name, got, test.want)
		}
	}
}

func TestKeyChanges(t *testing.T) {
	t.Parallel()
	run := func(change func(*planner.Run)) Job {
		op := &planner.Run{
			Args: []string{"make"}, Env: []string{"A=b"}, Dir: "/",
			Mounts: []planner.Mount{{Type: planner.Cache, Target: "/c", ID: "c"}, {Type: planner.Secret, Target: "/s", ID: "s"}},
		}
		change(op)
		return Job{Op: op}
	}
	_, base := fieldsOf(t, run(func(*planner.Run) {}), nil)
	for _, test := range []struct {
		name   string
		change func(*planner.Run)
		want   bool
	}{
		{"command", func(r *planner.Run) { r.Args = []string{"make", "all"} }, true},
		{"one argument or two", func(r *planner.Run) { r.Args = []string{"ma", "ke"} }, true},
		{"environment", func(r *planner.Run) { r.Env = []string{"A=c"} }, true},
		{"directory", func(r *planner.Run) { r.Dir = "/x" }, true},
		{"user", func(r *planner.Run) { r.User = "1" }, true},
		{"network", func(r *planner.Run) { r.Network = "none" }, true},
		{"platform", func(r *planner.Run) { r.Platform = "linux/arm64" }, true},
		{"cache id", func(r *planner.Run) { r.Mounts[0].ID = "d" }, true},
		{"cache source", func(r *planner.Run) { r.Mounts[0].Source = "/d" }, true},
		{"cache source, all of it", func(r *planner.Run) { r.Mounts[0].Source = "/" }, false},
		{"mount target", func(r *planner.Run) { r.Mounts[0].Target = "/d" }, true},
		{"proxy", func(r *planner.Run) { r.Proxy = []string{"https_proxy=x"} }, false},
		{"cache sharing", func(r *planner.Run) { r.Mounts[0].Sharing = "locked" }, false},
		{"required secret", func(r *planner.Run) { r.Mounts[1].Required = true }, false},
	} {
		_, key := fieldsOf(t, run(test.change), nil)
		if got := key != base; got != test.want {
			t.Errorf("%s: changes the key: %v, want %v", test.name, got, test.want)
		}
	}
	if _, err := (&Job{Op: &planner.Base{}}).Key(); err == nil {
		t.Error("a base has a key")
	}
}
