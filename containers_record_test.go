package forge

import (
	"encoding/json"
	"reflect"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// TestRecordKeepsBytes: arguments and variables that are no UTF-8 come back from a container's record as they were.
func TestRecordKeepsBytes(t *testing.T) {
	t.Parallel()
	seconds := 3
	for _, arg := range []string{"plain", "\xff", "a\xc3", "\ufffd", `\ufffd`, "é\x80"} {
		want := containerConfig{Command: []string{"echo", arg}, Labels: map[string]string{"k": arg}}
		want.Args, want.Env, want.Image, want.StopTimeout = []string{arg}, []string{"A=" + arg}, "image", &seconds
		want.Networks = []attachment{{Network: "app", EndpointOptions: EndpointOptions{NetworkAliases: []string{"x"}}}}
		want.Lent = &image.Image{Descriptor: ocispec.Descriptor{Size: 7}, RawConfig: []byte("{}\xff")}
		want.Lent.Config.Config.Env = []string{"B=" + "é\ufffd"}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got containerConfig
		if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v\n got %+v\nwant %+v", arg, err, got, want)
		}
		exec := ExecOptions{Args: []string{arg}}
		text, err = json.Marshal(exec)
		if err != nil {
			t.Fatal(err)
		}
		var back ExecOptions
		if err := json.Unmarshal(text, &back); err != nil || back.Args[0] != arg {
			t.Errorf("%q: %v, got %q", arg, err, back.Args)
		}
	}
}
