package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot/snapshottest"
)

// errOr is the text of an error, or what a value prints as.
func errOr(v any, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(v)
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"0", "0"},
		{"4096", "4096"},
		{"64m", "67108864"},
		{"1.5g", "1610612736"},
		{"2KiB", "2048"},
		{"1 kB", "1024"},
		{"9999999999g", "must be a size"},
		{"9000000000000g", "must be a size"},
		{"1kmgG", "must be a size"},
		{"-1", "must be a size"},
		{"", "must be a size"},
		{"lots", "must be a size"},
		{"1e300", "must be a size"},
		{"NaN", "must be a size"},
		{"16e", "must be a size"},
	} {
		if got := errOr(ParseSize(test.in)); !strings.Contains(got, test.want) {
			t.Errorf("ParseSize(%q) = %s, want %s", test.in, got, test.want)
		}
	}
}

func TestParseLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   LimitFlags
		want string
	}{
		{LimitFlags{}, "{0 0 0 {0 0 0 0  } {0 []} 0 0 false 0 [] false <nil>}"},
		{LimitFlags{Memory: "64m", ShmSize: "2m", Pids: 7, CPUs: "0.5"}, "{67108864 0 0 {500000000 0 0 0  } {0 []} 7 2097152 false 0 [] false <nil>}"},
		{LimitFlags{Memory: "0", CPUs: "0"}, "{0 0 0 {0 0 0 0  } {0 []} 0 0 false 0 [] false <nil>}"},
		{LimitFlags{Memory: "5m"}, "minimum memory limit allowed is 6MB"},
		{LimitFlags{CPUs: "NaN"}, "must be a number"},
		{LimitFlags{CPUs: "-1"}, "must be a number"},
		{LimitFlags{CPUs: "1e9"}, "range of CPUs is from 0.01"},
		{LimitFlags{CPUs: "0.001"}, "range of CPUs is from 0.01"},
		{LimitFlags{CPUPeriod: 50000, CPUQuota: 20000, CPUShares: 3, CpusetCPUs: "0-1", CpusetMems: "0"}, "{0 50000 20000 3 0-1 0}"},
		{LimitFlags{CPUs: "1", CPUQuota: 20000}, "Nano CPUs and CPU Quota cannot both be set"},
		{LimitFlags{CPUs: "1", CPUPeriod: 20000}, "Nano CPUs and CPU Period cannot both be set"},
		{LimitFlags{CPUPeriod: 999}, "CPU cfs period can not be less than 1ms"},
		{LimitFlags{CPUQuota: 999}, "CPU cfs quota can not be less than 1ms"},
		{LimitFlags{Ulimits: []string{"nofile=1:2"}}, "[{nofile 1 2}]"},
		{LimitFlags{Ulimits: []string{"nosuch=1"}}, "--ulimit nosuch=1: invalid ulimit type"},
	} {
		if got := errOr(ParseLimits(test.in)); !strings.Contains(got, test.want) {
			t.Errorf("ParseLimits(%+v) = %s, want %s", test.in, got, test.want)
		}
	}
}

func TestParseHost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"a:1.2.3.4", "{a 1.2.3.4}"},
		{"a=1.2.3.4", "{a 1.2.3.4}"},
		{"a:::1", "{a ::1}"},
		{"a=[::1]", "{a ::1}"},
		{"a:host-gateway", "{a invalid IP}"},
		{"a", "must be HOST:IP"},
		{":1.2.3.4", "must be HOST:IP"},
		{"a b:1.2.3.4", "must be HOST:IP"},
		{"a\n:1.2.3.4", "must be HOST:IP"},
		{"a:1.2.3", "is not an IP address"},
		{"a:fe80::1%eth0", "is not an IP address"},
	} {
		if got := errOr(parseHost(test.in)); !strings.Contains(got, test.want) {
			t.Errorf("parseHost(%q) = %s, want %s", test.in, got, test.want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	t.Parallel()
	tmpfs := func(s string) (any, error) {
		p, err := parseTmpfs(s)
		if err != nil {
			return nil, err
		}
		return p.tmpfs()
	}
	for _, test := range []struct{ flag, in, want string }{
		{"v", "/a:/b", `{"Type":"bind","Source":"/a","Target":"/b","Create":true}`},
		{"v", "./a:/b/:ro,z", `{"Type":"bind","Source":"./a","Target":"/b","ReadOnly":true,"Mode":"ro,z","Create":true}`},
		{"v", "/a:/b:rslave", `{"Type":"bind","Source":"/a","Target":"/b","Mode":"rslave","Propagation":"rslave","Create":true}`},
		{"v", "a:/b", `{"Type":"volume","Name":"a","Target":"/b"}`},
		{"v", "a:/b:nocopy,ro,Z", `{"Type":"volume","Name":"a","Target":"/b","ReadOnly":true,"Mode":"nocopy,ro,Z","NoCopy":true}`},
		{"v", "~/a:/b", `{"Type":"volume","Name":"~/a","Target":"/b"}`},
		{"v", "/a", `{"Type":"volume","Target":"/a"}`},
		{"v", "/a:b", "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute"},
		{"v", "a", "invalid mount path: 'a' mount path must be absolute"},
		{"v", "/a:/", "invalid specification: destination can't be '/'"},
		{"v", "/a:ro", "invalid volume specification: '/a:ro'"},
		{"v", ":/b", "invalid volume specification: ':/b'"},
		{"v", "", "invalid volume specification: ''"},
		{"v", "/a:/b:ro:z", "invalid volume specification: '/a:/b:ro:z'"},
		{"v", "/a:/b:nosuch", "invalid mode: nosuch"},
		{"v", "/a:/b:", "invalid mode: "},
		{"v", "/a:/b:ro,rw", "invalid mode: ro,rw"},
		{"v", "/a:/b:nocopy", "invalid mode: nocopy"},
		{"v", "a:/b:rslave", "invalid mode: rslave"},
		{"tmpfs", "/t", `{"Target":"/t","ReadOnly":false,"NoExec":true,"Setuid":false,"Devices":false,"Lasting":false,"Options":{"Size":0,"Mode":0,"UID":0,"GID":0}}`},
		{"tmpfs", "/t:ro,exec,suid,dev,size=1k,mode=700,uid=1,gid=2", `{"Target":"/t","ReadOnly":true,"NoExec":false,"Setuid":true,"Devices":true,"Lasting":false,"Options":{"Size":1024,"Mode":448,"UID":1,"GID":2}}`},
		{"tmpfs", "/t:size=9999999999g", "must be a size"},
		{"tmpfs", "/t:mode=9", "must be octal"},
		{"tmpfs", "/t:uid=-1", "must be a number"},
		{"tmpfs", "t", "mount path must be absolute"},
		{"mount", "type=bind,source=/a,target=/b", `{"Type":"bind","Source":"/a","Target":"/b"}`},
		{"mount", "type=bind,src=/a,dst=/b,readonly", `{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}`},
		{"mount", "type=bind,\"src=/a,b\",destination=/b,ro=false,bind-propagation=Shared", `{"Type":"bind","Source":"/a,b","Target":"/b","Propagation":"shared"}`},
		{"mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770", `{"Type":"tmpfs","Target":"/t","Memory":"size=1m,mode=1770"}`},
		{"mount", "type=volume,source=aa,target=/b", `{"Type":"volume","Name":"aa","Target":"/b"}`},
		{"mount", "target=/b", `{"Type":"volume","Target":"/b"}`},
		{"mount", "src=aa,dst=/b,volume-nocopy,volume-subpath=x/y,volume-label=k=v,volume-driver=local", `{"Type":"volume","Name":"aa","Target":"/b","NoCopy":true,"Subpath":"x/y","Labels":{"k":"v"}}`},
		{"mount", "", `invalid argument "" for "--mount" flag: value is empty`},
		{"mount", "source=/a", "target is required"},
		{"mount", "type=bind,target=/b", `invalid mount config for type "bind": field Source must not be empty`},
		{"mount", "type=bind,source=a,target=/b", "invalid mount path: 'a' mount path must be absolute"},
		{"mount", "type=tmpfs,source=/a,target=/b", "field Source must not be specified"},
		{"mount", "type=npipe,source=/a,target=/b", `invalid mount config for type "npipe": mount type unknown`},
		{"mount", "type=bind,source=/a,target=/b,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"},
		{"mount", "type=volume,source=/a,target=/b,bind-propagation=slave", "cannot mix 'bind-*' options with mount type 'volume'"},
		{"mount", "type=bind,source=/a,target=/b,tmpfs-size=1", "cannot mix 'tmpfs-*' options with mount type 'bind'"},
		{"mount", "type=bind,source=/a,target=/b,bind-propagation=up", "invalid propagation mode: up"},
		{"mount", "type=bind,source=/a,target=/b,nosuch=1", "unexpected key 'nosuch' in 'nosuch=1'"},
		{"mount", "type=bind,source=/a,target=/b,readonly=maybe", "invalid value for readonly: maybe"},
		{"mount", "type=tmpfs,target=/b,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"},
		{"mount", "type=bind,source", "invalid field 'source' must be a key=value pair"},
		{"mount", "dst=/b,volume-subpath=x", "must not set Subpath when using anonymous volumes"},
		{"mount", "src=aa,dst=/b,volume-subpath=../x", "must be a relative path within the volume"},
		{"mount", "src=aa,dst=/b,volume-driver=nfs", `plugin "nfs" not found`},
		{"from", "web", "web false"},
		{"from", "web:ro", "web true"},
		{"from", "web:rw,z", "web false"},
		{"from", ":ro", "invalid volume specification: ':ro'"},
		{"from", "web:", "invalid mode: "},
		{"from", "web:nocopy", "invalid mode: nocopy"},
		{"from", "web:slave", "invalid mode: slave"},
	} {
		var got string
		switch test.flag {
		case "v":
			got = asJSON(parseVolume(test.in))
		case "tmpfs":
			got = asJSON(tmpfs(test.in))
		case "mount":
			got = asJSON(parseMount(test.in))
		case "from":
			name, readOnly, err := ParseVolumesFrom(test.in)
			got = errOr(fmt.Sprint(name, " ", readOnly), err)
		}
		if got != test.want && (strings.HasPrefix(test.want, "{") || !strings.Contains(got, test.want)) {
			t.Errorf("-%s %s = %s, want %s", test.flag, test.in, got, test.want)
		}
	}
	if _, err := ParseMounts([]string{"/a:/x"}, nil, []string{"/y/../x"}); err == nil || err.Error() != "duplicate mount point: /x" {
		t.Errorf("two mounts at one place: %v", err)
	}
}

// asJSON is what a value is as JSON, or the text of an error.
func asJSON(v any, err error) string {
	b, jsonErr := json.Marshal(v)
	return errOr(string(b), errors.Join(err, jsonErr))
}

func TestParseEnv(t *testing.T) {
	t.Setenv("HERE", "1")
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "env")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, test := range []struct {
		file  string
		flags []string
		want  string
	}{
		{"\xef\xbb\xbfA=1\n# no\n\n  B=2 # yes\nHERE\nGONE\n", nil, "[A=1 B=2 # yes HERE=1]"},
		{"", []string{"A=", "HERE", "GONE", "A B=1"}, "[A= HERE=1 GONE A B=1]"},
		{"A=" + strings.Repeat("x", 100000), nil, "[A=xxx"},
		{"A=1\nB C=2\n", nil, `:2: variable "B C" contains whitespaces`},
		{"=1\n", nil, ":1: no variable name"},
		{"A=1\nB=\xff\n", nil, ":2: the line is not UTF-8"},
		{"A=1\nB=" + strings.Repeat("x", 2<<20), nil, ":2: the line has more than"},
		{"", []string{"=x"}, `variable "=x": has no name`},
	} {
		if got := errOr(ParseEnv(t.Context(), []string{file(test.file)}, test.flags)); !strings.Contains(got, test.want) {
			t.Errorf("%.20q, %q = %.200s, want %s", test.file, test.flags, got, test.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"", "PATH=" + runtime.DefaultPath + " HOME=/h"},
		{"A=1 PATH=/bin A=2 B=1", "A=2 PATH=/bin B=1 HOME=/h"},
		{"A=1 HOME=/x A", "HOME=/x PATH=" + runtime.DefaultPath},
		{"AB=1 A", "AB=1 PATH=" + runtime.DefaultPath + " HOME=/h"},
	} {
		if got := strings.Join(Environment(strings.Fields(test.in), "/h"), " "); got != test.want {
			t.Errorf("Environment(%q) = %s, want %s", test.in, got, test.want)
		}
	}
}

func TestParseDevice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"/dev/fuse", "&{/dev/fuse /dev/fuse}"},
		{"/dev/a:/dev/b", "&{/dev/a /dev/b}"},
		{"/dev/a:/dev/b:rwm", "&{/dev/a /dev/b}"},
		{"/dev/a:rw", "&{/dev/a /dev/a}"},
		{"/dev/a:r", "must be rwm"},
		{"dev", "must be SRC"},
		{"/dev/a:/dev/b:rwm:x", "must be SRC"},
		{"/dev/a:/", "must be SRC"},
		{"vendor.com/gpu=all", "{vendor.com/gpu=all true true}"},
	} {
		m, d, err := parseDevice(test.in)
		got := errOr(m, err)
		if d != nil {
			got = errOr(*d, err)
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("parseDevice(%q) = %s, want %s", test.in, got, test.want)
		}
	}
}

// TestNode: a device that the caller gives can be used, under any name, and others still cannot.
func TestNode(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	node := filepath.Join(t.TempDir(), "tun")
	snapshottest.Need(t, "devices", syscall.Mknod(node, syscall.S_IFCHR|0o666, 10<<8|200) == nil) // mostly not in use, but known
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	snapshottest.Need(t, "devices", err == nil)
	f.Close()
	o := Options{Mounts: []Mount{&Node{Source: node, Target: "/dev/net/tun"}}}
	const script = "(: <>/dev/net/tun) && echo open; mknod /tmp/kmsg c 1 11; (: </tmp/kmsg) 2>/dev/null && echo kmsg; echo end"
	if got := h.sh(script, o); got != "open\nend\n" {
		t.Errorf("with the device printed %q", got)
	}
	o = Options{Mounts: []Mount{&Node{Source: "/etc/passwd", Target: "/dev/x"}}}
	h.open(&o)
	if _, err := h.factory.Prepare(t.Context(), o); err == nil || !strings.Contains(err.Error(), "/etc/passwd is not a device") {
		t.Errorf("a file as a device: %v", err)
	}
}

// TestCacheName: caches that begin otherwise are others.
func TestCacheName(t *testing.T) {
	t.Parallel()
	mode, other := uint32(0o700), uint32(0o750)
	seen := map[string]int{}
	for i, m := range []Cache{
		{ID: "a"},
		{ID: "b"},
		{ID: "a", Access: Access{UID: 1}},
		{ID: "a", Access: Access{GID: 1}},
		{ID: "a", Access: Access{Mode: &mode}},
		{ID: "a", Access: Access{Mode: &other}},
		{ID: "a", Seed: &Seed{Digest: "x"}},
		{ID: "a", Seed: &Seed{Digest: "y"}},
	} {
		name := m.name()
		if before, ok := seen[name]; ok {
			t.Errorf("caches %d and %d have one name", before, i)
		}
		seen[name] = i
		m.Target, m.Sharing, m.ReadOnly = "/x", "locked", true
		if m.name() != name {
			t.Errorf("cache %d: where and how it is mounted changes its name", i)
		}
	}
}

// TestMounts: outer mounts come first whatever the order, and mount points in them are made.
func TestMounts(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	dir := func(name string) string {
		d := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "name"), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return d
	}
	a, b := dir("a"), dir("b")
	const restrictions = "grep ' /t ' /proc/self/mountinfo | cut -d' ' -f6; stat -f -c %b /t"
	page := int64(os.Getpagesize())
	half := strconv.FormatInt((runtime.MemoryTotal()/2+page-1)/page, 10) // of the memory, in blocks
	for _, test := range []struct {
		name   string
		mounts []Mount
		script string
		want   string
	}{
		{"inner first", []Mount{&Bind{Source: b, Target: "/vol/y/z"}, &Bind{Source: a, Target: "/vol"}}, "cat /vol/name /vol/y/z/name", "a\nb\n"},
		{"a file in a directory", []Mount{&Bind{Source: a, Target: "/vol"}, &Bind{Source: b + "/name", Target: "/vol/sub/f"}}, "cat /vol/sub/f", "b\n"},
		{"through a link", []Mount{&Bind{Source: a, Target: "/vol"}, &Bind{Source: b, Target: "/link/in"}}, "cat /vol/in/name", "b\n"},
		{"in memory", []Mount{&Bind{Source: b, Target: "/t/in"}, &Tmpfs{Target: "/t", Options: runtime.Tmpfs{Mode: 0o750, UID: 7}}}, "cat /t/in/name; stat -c '%a %u' /t", "b\n750 7\n"},
		{"in memory, restricted", []Mount{&Bind{Source: b, Target: "/t/in"}, &Tmpfs{Target: "/t"}}, restrictions, "rw,nosuid,nodev,relatime\n" + half + "\n"},
		{"in memory, free", []Mount{&Bind{Source: b, Target: "/t/in"}, &Tmpfs{Target: "/t", Setuid: true, Devices: true}}, restrictions, "rw,relatime\n" + half + "\n"},
		{"in memory, of a size", []Mount{&Bind{Source: b, Target: "/t/in"}, &Tmpfs{Target: "/t", Options: runtime.Tmpfs{Size: 1 << 20}}}, "stat -f -c %b /t", strconv.FormatInt((1<<20)/page, 10) + "\n"},
		{"a cache", []Mount{&Bind{Source: b, Target: "/c/in"}, &Cache{ID: "x", Target: "/c"}}, "cat /c/in/name", "b\n"},
		{"in a read-only one that has the place", []Mount{&Bind{Source: a, Target: "/vol", ReadOnly: true}, &Bind{Source: b, Target: "/vol/y/z"}}, "cat /vol/y/z/name", "b\n"},
		{"on the working directory", []Mount{&Bind{Source: a, Target: "/w"}}, "cat name", "a\n"},
	} {
		if got := h.sh(test.script, Options{Mounts: test.mounts, Process: Process{Dir: "/w"}}); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	o := Options{Mounts: []Mount{&Bind{Source: b, Target: "/vol/no"}, &Bind{Source: a, Target: "/vol", ReadOnly: true}}}
	h.open(&o)
	if _, err := h.factory.Prepare(t.Context(), o); err == nil || !strings.Contains(err.Error(), "bind mount at /vol/no: mount point in a read-only mount") {
		t.Errorf("in a read-only mount: %v", err)
	}
}

func TestCommandError(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"nosuch", 127, `exec: "nosuch": executable file not found in $PATH`},
		{"", 127, `exec: "": executable file not found in $PATH`},
		{"/bin/nosuch", 127, `exec: "/bin/nosuch": no such file or directory`},
		{"/etc/passwd/x", 127, `exec: "/etc/passwd/x": not a directory`},
		{"/etc/passwd", 126, `exec: "/etc/passwd": permission denied`},
		{"/etc", 126, `exec: "/etc": permission denied`},
	} {
		c := h.prepare(Options{Process: Process{Args: []string{test.args}}})
		_, err := c.Start(t.Context(), runtime.Stdio{})
		e, ok := err.(*CommandError)
		if !ok || e.Code != test.code || e.Error() != test.want {
			t.Errorf("%q: %v, want %d %s", test.args, err, test.code, test.want)
		}
	}
}
