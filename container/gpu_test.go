package container

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseGPUs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"all", `[{ -1 [] [[gpu]] map[]}]`},
		{"2", `[{ 2 [] [[gpu]] map[]}]`},
		{"count=all", `[{ -1 [] [[gpu]] map[]}]`},
		{"device=0", `[{ 0 [0] [[gpu]] map[]}]`},
		{`"device=0,GPU-1"`, `[{ 0 [0 GPU-1] [[gpu]] map[]}]`},
		{`driver=nvidia,"capabilities=compute,utility"`, `[{nvidia 1 [] [[compute utility gpu]] map[]}]`},
		{`all,"options=a=b,c"`, `[{ -1 [] [[gpu]] map[a:b c:]}]`},
		{"some", `invalid argument "some" for "--gpus" flag: invalid count (some): value must be either "all" or an integer: invalid syntax`},
		{"count=1,count=2", "gpu request key 'count' can be specified only once"},
		{"memory=1", "unexpected key 'memory' in 'memory=1'"},
		{"", `invalid argument "" for "--gpus" flag: EOF`},
		{`"`, `for "--gpus" flag: `},
	} {
		if got := errOr(ParseGPUs([]string{test.in})); !strings.Contains(got, test.want) {
			t.Errorf("--gpus %s: %s, want %s", test.in, got, test.want)
		}
	}
}

// gpuSpec is as nvidia-ctk writes it: each GPU under a number and a UUID, and all of them under one name.
const gpuSpec = `
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- {name: "0", containerEdits: {env: [G0=1], deviceNodes: [{path: /dev/gpu0, hostPath: /dev/zero}]}}
- {name: GPU-a, containerEdits: {env: [G0=1], deviceNodes: [{path: /dev/gpu0, hostPath: /dev/zero}]}}
- {name: "1", containerEdits: {env: [G1=1], deviceNodes: [{path: /dev/gpu1, hostPath: /dev/zero}]}}
- {name: GPU-b, containerEdits: {env: [G1=1], deviceNodes: [{path: /dev/gpu1, hostPath: /dev/zero}]}}
- {name: all, containerEdits: {env: [G0=1, G1=1, ALL=1]}}
containerEdits: {env: [COMMON=1]}
`

func TestGPUs(t *testing.T) {
	t.Parallel()
	parse := func(text string) cdiSpec {
		spec, err := parseCDI([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return spec
	}
	whole := parse(gpuSpec)
	bare := whole
	bare.Devices = whole.Devices[:4]
	newer := parse(`{"kind": "nvidia.com/gpu", "devices": [{"name": "1", "containerEdits": {"env": ["NEW=1"]}}]}`)
	other := parse(`{"kind": "vendor.com/x", "devices": [{"name": "0", "containerEdits": {"env": ["X=1"]}}]}`)
	for _, test := range []struct {
		gpus  string
		specs []cdiSpec
		want  string
	}{
		{"all", []cdiSpec{other, whole}, "G0=1 G1=1 ALL=1 COMMON=1"},
		{"all", []cdiSpec{bare}, "G0=1 G1=1 COMMON=1"},
		{"1", []cdiSpec{whole}, "G0=1 COMMON=1"},
		{"2", []cdiSpec{other, whole}, "G0=1 G1=1 COMMON=1"},
		{"0", []cdiSpec{whole}, ""},
		{"device=1", []cdiSpec{whole}, "G1=1 COMMON=1"},
		{`"device=GPU-b,0"`, []cdiSpec{whole}, "G0=1 G1=1 COMMON=1"},
		{`"device=0,GPU-a"`, []cdiSpec{whole}, "G0=1 COMMON=1"},
		{"device=all", []cdiSpec{whole}, "G0=1 G1=1 ALL=1 COMMON=1"},
		{`"device=0,1"`, []cdiSpec{newer, whole}, "NEW=1 G0=1 COMMON=1"},
		{"3", []cdiSpec{whole}, "3 devices are asked for, and /etc/cdi or /var/run/cdi has 2 of nvidia.com/gpu"},
		{"device=*", []cdiSpec{whole}, "no device nvidia.com/gpu=* in /etc/cdi or /var/run/cdi"},
		{"device=7", []cdiSpec{whole}, `could not select device driver "" with capabilities: [[gpu]]: no device nvidia.com/gpu=7 in /etc/cdi or /var/run/cdi`},
		{"all", []cdiSpec{other}, `could not select device driver "" with capabilities: [[gpu]]: no device of nvidia.com/gpu in /etc/cdi or /var/run/cdi: install the NVIDIA Container Toolkit`},
	} {
		requests, err := ParseGPUs([]string{test.gpus})
		if err != nil {
			t.Fatal(err)
		}
		var env []string
		edits, err := gpuEdits(test.specs, requests)
		for _, e := range edits {
			env = append(env, e.Env...)
		}
		got := strings.Join(env, " ")
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != test.want || !strings.Contains(got, test.want) {
			t.Errorf("--gpus %s: %s, want %s", test.gpus, got, test.want)
		}
	}
}

func TestCheckRequests(t *testing.T) {
	t.Parallel()
	gpu := [][]string{{"gpu"}}
	for _, test := range []struct {
		in   DeviceRequest
		want string
	}{
		{DeviceRequest{Count: -1, Capabilities: gpu}, "<nil>"},
		{DeviceRequest{Driver: "nvidia", DeviceIDs: []string{"0"}, Capabilities: [][]string{{"tpu"}, {"gpu", "compute"}}}, "<nil>"},
		{DeviceRequest{Count: 1}, `could not select device driver "" with capabilities: []: requests are for GPUs`},
		{DeviceRequest{Count: 1, Capabilities: [][]string{{"gpu", "tpu"}}}, `could not select device driver "" with capabilities: [[gpu tpu]]`},
		{DeviceRequest{Driver: "amd", Capabilities: gpu}, `could not select device driver "amd" with capabilities: [[gpu]]`},
		{DeviceRequest{Count: 1, DeviceIDs: []string{"0"}, Capabilities: gpu}, "cannot set both Count and DeviceIDs on device request"},
	} {
		if got := fmt.Sprint(CheckRequests([]DeviceRequest{test.in})); !strings.HasPrefix(got, test.want) {
			t.Errorf("%+v: %s, want %s", test.in, got, test.want)
		}
	}
}

// TestMountGPUs: a container that asks for two GPUs has both devices, and no third.
func TestMountGPUs(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	spec, err := parseCDI([]byte(gpuSpec))
	if err != nil {
		t.Fatal(err)
	}
	c := h.prepare(Options{Process: Process{Args: []string{"/bin/sh", "-c", "head -c 3 /dev/gpu1 | wc -c; cd /dev; echo gpu* $COMMON"}}})
	if c.options.Requests, err = ParseGPUs([]string{"2"}); err != nil {
		t.Fatal(err)
	}
	if err := c.mountGPUs([]cdiSpec{spec}); err != nil {
		t.Fatal(err)
	}
	if out := h.output(c); out != "3\ngpu0 gpu1 1\n" {
		t.Errorf("printed %q", out)
	}
}
