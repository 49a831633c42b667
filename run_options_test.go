package forge

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/forge-build/forge/container"
)

// TestRunOptionsAreData: options that were checked say the same after they were written as JSON and read in another directory
// by a process with other variables.
func TestRunOptionsAreData(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("HERE", "1")
	write(t, "env", "A=1\nHERE\n")
	write(t, "profile.json", `{"defaultAction": "SCMP_ACT_ALLOW"}`)
	write(t, "config.json", `{"proxies":{"default":{"httpProxy":"http://proxy:1"}}}`)
	o := RunOptions{
		Image: "bb", Platform: "linux/arm64", Pull: PullNever, Insecure: true,
		ProcessOptions: ProcessOptions{
			Args: []string{"a"}, Entrypoint: []string{""}, Env: []string{"HERE", "GONE"}, EnvFiles: []string{"env"}, Workdir: "/w", User: "1:2", TTY: true,
		},
		SurroundingOptions: SurroundingOptions{
			Network: "bridge", Hostname: "h", Domain: "d.test", AddHosts: []string{"a:1.2.3.4"}, DNS: []string{"1.2.3.4"},
			Volumes: []string{"./data:/data:ro", "/abs:/abs"}, Mounts: []string{"type=bind,\"src=./data\",dst=/b", "type=tmpfs,dst=/t"},
			Tmpfs: []string{"/run:size=1m"}, Devices: []string{"/dev/null:/dev/n"},
			DeviceRequests: []container.DeviceRequest{{Count: 2, Capabilities: [][]string{{"gpu"}}, Options: map[string]string{"a": "b"}}},
		},
		SecurityOptions: SecurityOptions{
			Privileged: true, CapAdd: []string{"CHOWN"}, CapDrop: []string{"ALL"}, ReadOnly: true,
			SecurityOpts: []string{"no-new-privileges", "seccomp:profile.json"},
		},
		LimitOptions: LimitOptions{Memory: "64m", ShmSize: "1m", Pids: 7, Ulimits: []string{"nofile=1:2"}, CPUs: "0.5"},
		BlockOptions: BlockOptions{BlkioWeight: 10, DeviceReadBps: []string{"/dev/a:1mb"}},
	}
	if err := o.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(o.Volumes, " "), filepath.Join(dir, "data")+":/data:ro /abs:/abs"; got != want {
		t.Errorf("volumes %s, want %s", got, want)
	}
	if got, want := strings.Join(o.Mounts, " "), "type=bind,src="+filepath.Join(dir, "data")+",dst=/b type=tmpfs,dst=/t"; got != want {
		t.Errorf("mounts %s, want %s", got, want)
	}
	if got, want := strings.Join(o.Env, " "), "HTTP_PROXY=http://proxy:1 http_proxy=http://proxy:1 A=1 HERE=1 HERE=1 GONE"; got != want {
		t.Errorf("variables %s, want %s", got, want)
	}
	if got, want := strings.Join(o.SecurityOpts, " "), `seccomp={"defaultAction": "SCMP_ACT_ALLOW"} no-new-privileges`; got != want {
		t.Errorf("security options %s, want %s", got, want)
	}
	before, err := o.parse()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	t.Setenv("GONE", "back")
	var again RunOptions
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	after, err := again.parse()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, o) || !reflect.DeepEqual(after, before) {
		t.Errorf("written and read again: %+v\nwas %+v\nmeans %+v\nmeant %+v", again, o, after, before)
	}
}

func TestRunOptionsCheck(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	for _, test := range []struct {
		o    RunOptions
		want string
	}{
		{RunOptions{Platform: "a/b/c/d"}, `platform "a/b/c/d"`},
		{RunOptions{ProcessOptions: ProcessOptions{Workdir: "w"}}, `the working directory "w" is invalid, it needs to be an absolute path`},
		{RunOptions{ProcessOptions: ProcessOptions{EnvFiles: []string{"/nosuch"}}}, "/nosuch: no such file or directory"},
		{RunOptions{SurroundingOptions: SurroundingOptions{DNS: []string{"x"}}}, "--dns x: must be an IP address"},
		{RunOptions{SurroundingOptions: SurroundingOptions{Hostname: "a b"}}, `--hostname "a b": must be`},
		{RunOptions{SurroundingOptions: SurroundingOptions{Domain: "a b"}}, `--domainname "a b": must be`},
		{RunOptions{SurroundingOptions: SurroundingOptions{Domain: "d"}, NamespaceOptions: NamespaceOptions{UTS: "host"}}, "conflicting options: domainname and the UTS mode"},
		{RunOptions{SurroundingOptions: SurroundingOptions{AddHosts: []string{"a"}}}, `--add-host "a": must be HOST:IP`},
		{RunOptions{SurroundingOptions: SurroundingOptions{Volumes: []string{"/a:/b"}, Tmpfs: []string{"/b"}}}, "duplicate mount point: /b"},
		{RunOptions{SurroundingOptions: SurroundingOptions{Devices: []string{"x"}}}, "must be SRC"},
		{RunOptions{SurroundingOptions: SurroundingOptions{DeviceRequests: []container.DeviceRequest{{Driver: "x"}}}}, `could not select device driver "x" with capabilities: []`},
		{RunOptions{BlockOptions: BlockOptions{BlkioWeight: 5}}, "Range of blkio weight is from 10 to 1000"},
		{RunOptions{SecurityOptions: SecurityOptions{SecurityOpts: []string{"x"}}}, `--security-opt "x"`},
		{RunOptions{SecurityOptions: SecurityOptions{SecurityOpts: []string{"seccomp=/nosuch"}}}, "seccomp profile: stat /nosuch: no such file"},
		{RunOptions{LimitOptions: LimitOptions{Memory: "1m"}}, "minimum memory limit allowed is 6MB"},
	} {
		if err := test.o.Check(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %s", test.o, err, test.want)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
