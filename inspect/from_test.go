package inspect

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/runtime"
)

// TestForms writes what flags say as docker's API has it.
func TestForms(t *testing.T) {
	t.Parallel()
	oom := false
	bindings, err := Bindings([]string{"127.0.0.1:8080-8081:80-81", "53/udp"})
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := MountPoints([]string{"type=bind,src=/a,dst=/b,bind-propagation=shared", "type=volume,src=v,dst=/c,readonly", "type=tmpfs,dst=/d,tmpfs-size=4096,tmpfs-mode=700"})
	if err != nil {
		t.Fatal(err)
	}
	resources := ResourcesOf(runtime.Limits{Memory: 1 << 20, Pids: -1, Ulimits: []runtime.Ulimit{{Name: "core", Soft: 1, Hard: ^uint64(0)}}, BlockIO: runtime.BlockIO{
		Weight: 300, Devices: []runtime.BlockLimit{{Use: runtime.BlockReadIOps, Path: "/dev/a", Value: 5}},
	}}, []string{"/dev/a:/dev/b", "/dev/c", "vendor.com/x=1"})
	for _, test := range []struct {
		of   any
		want string
	}{
		{PolicyOf(""), `{"Name":"no","MaximumRetryCount":0}`},
		{PolicyOf("on-failure:3"), `{"Name":"on-failure","MaximumRetryCount":3}`},
		{Capabilities([]string{"net_admin", "CAP_CHOWN", "all"}), `["ALL","CAP_CHOWN","CAP_NET_ADMIN"]`},
		{bindings, `{"53/udp":[{"HostIp":"","HostPort":""}],"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}],"81/tcp":[{"HostIp":"127.0.0.1","HostPort":"8081"}]}`},
		{mounts, `[{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"Propagation":"shared"}},{"Type":"volume","Source":"v","Target":"/c","ReadOnly":true},` +
			`{"Type":"tmpfs","Target":"/d","TmpfsOptions":{"SizeBytes":4096,"Mode":448}}]`},
		{resources.MemorySwap, "2097152"},
		{resources.PidsLimit, "-1"},
		{resources.OomKillDisable, mustJSON(t, &oom)},
		{resources.Ulimits, `[{"Name":"core","Hard":-1,"Soft":1}]`},
		{resources.Devices, `[{"PathOnHost":"/dev/a","PathInContainer":"/dev/b","CgroupPermissions":"rwm"},{"PathOnHost":"/dev/c","PathInContainer":"/dev/c","CgroupPermissions":"rwm"}]`},
		{resources.DeviceRequests, `[{"Driver":"cdi","Count":0,"DeviceIDs":["vendor.com/x=1"],"Capabilities":null,"Options":null}]`},
		{resources.BlkioWeight, "300"},
		{resources.BlkioWeightDevice, "[]"},
		{resources.BlkioDeviceReadIOps, `[{"Path":"/dev/a","Rate":5}]`},
		{StateOf(&state.Run{Health: &state.Health{Status: "starting"}}, state.Running).Health, `{"Status":"starting","FailingStreak":0,"Log":[]}`},
	} {
		if got := mustJSON(t, test.of); got != test.want {
			t.Errorf("%T is %s, want %s", test.of, got, test.want)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestWords reads a command in both forms.
func TestWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{`"a b"`: {"a b"}, `["a","b"]`: {"a", "b"}, `null`: nil} {
		var w Words
		if err := json.Unmarshal([]byte(in), &w); err != nil || !slices.Equal(w, want) {
			t.Errorf("%s is %q, %v, want %q", in, w, err, want)
		}
	}
}
