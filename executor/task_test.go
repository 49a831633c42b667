package executor

import (
	"bytes"
	"strings"
	"testing"
)

const hexOfLayer = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// TestTaskRefused holds that a job is refused before anything of it is done if no build sends it, since it takes what only the machine of its
// build has or its caller can allow, or if its parts do not fit each other.
func TestTaskRefused(t *testing.T) {
	const layer = `[{"Blob":{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:` + hexOfLayer + `","size":1024},"DiffID":"sha256:` + hexOfLayer + `"}]`
	for _, test := range []struct{ job, want string }{
		{`{"op":{"kind":"run","op":{"Args":["x"],"Network":"none"}}}`, ""},
		{`{"op":{"kind":"run","op":{"Args":["x"],"Network":"default"}}}`, ""},
		{`{"op":{"kind":"run","op":{"Args":["x"],"Insecure":true}}}`, "--security=insecure"},
		{`{"op":{"kind":"run","op":{"Args":["x"],"Network":"host"}}}`, "its network is that of this machine"},
		{`{"op":{"kind":"run","op":{"Args":["x"],"Devices":[{"Name":"vendor.com/device=one"}]}}}`, "its devices"},
		{`{"op":{"kind":"run","op":{"Mounts":[{"Type":"secret","ID":"x"}]}},"inputs":[{}]}`, "secret"},
		{`{"op":{"kind":"run","op":{"Mounts":[{"Type":"ssh"}]}},"inputs":[{}]}`, "keys"},
		{`{"op":{"kind":"run","op":{"Mounts":[{"Type":"cache","Target":"/c"}]}},"inputs":[{}]}`, "cache mount"},
		{`{"op":{"kind":"run","op":{"Mounts":[{"Type":"cache","Target":"/c","From":{"Read":0}}]}},"reads":[` + layer + `],"inputs":[{}]}`, "cache mount"},
		{`{"op":{"kind":"run","op":{"Mounts":[{"Type":"tmpfs","Target":"/t"}]}},"inputs":[{}]}`, ""},
		{`{"op":{"kind":"run","op":{"Mounts":[{"Type":"bind","Target":"/b"}]}},"inputs":[{}]}`, "bind of nothing"},
		{`{"op":{"kind":"run","op":{"Mounts":[{"Type":"bind","Target":"/b","From":{"Read":0}}]}},"reads":[` + layer + `],"inputs":[{}]}`, ""},
		{`{"op":{"kind":"run","op":{"Mounts":[{"Type":"bind","Target":"/b","From":{"Read":1}}]}},"reads":[` + layer + `],"inputs":[{}]}`, "file system 1 of 1"},
		{`{"op":{"kind":"run","op":{"Insecure":true,"Mounts":[{"Type":"bind","Target":"/b","From":{"Read":0}}]}},"reads":[` + layer + `],"inputs":[{}],"only":0}`, ""},
		{`{"op":{"kind":"copy","op":{"From":{"Read":0},"Sources":[{"Path":"/a"}]}},"reads":[` + layer + `],"inputs":[{}]}`, ""},
		{`{"op":{"kind":"copy","op":{"From":{"Read":0},"Sources":[{}]}},"inputs":[{}]}`, "source 0 of the job must be one thing"},
		{`{"op":{"kind":"copy","op":{"From":{"Read":0},"Sources":[{"Path":"/a","URL":"http://example.com/"}]}},"reads":[` + layer + `],"inputs":[{}],"only":0}`, "source 0 of the job must be one thing"},
		{`{"op":{"kind":"copy","op":{"From":{"Read":-1},"Sources":[{"URL":"http://example.com/"}]}},"inputs":[{}]}`, "it reads a URL"},
		{`{"op":{"kind":"copy","op":{"From":{"Read":-1},"Sources":[{"Git":{"Remote":"http://example.com/"}}]}},"inputs":[{}]}`, "it reads a URL"},
	} {
		err := new(Task).parse([]byte(`{"version":1,"job":` + test.job + `}`))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.job, err, test.want)
		}
	}
}

// FuzzTask holds that no job makes the reader of jobs panic, and that what it takes can be written and read again.
func FuzzTask(f *testing.F) {
	f.Add([]byte(`{"version":1,"job":{"op":{"kind":"mkdir","op":{"Path":"/a","User":""}}}}`))
	f.Add([]byte(`{"version":1,"job":{"op":{"kind":"run","op":{"Args":["x"],"Mounts":[{"Type":"bind","From":{"Read":3}}]}},"inputs":[{}]}}`))
	f.Add([]byte(`{"version":1,"settings":null,"job":{"op":{"kind":"copy","op":{"From":{"Read":-1},"Sources":[{"Path":"a"}]}},"inputs":[{"layer":{}}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var task, again Task
		if task.parse(text) != nil {
			return
		}
		first, err := MarshalTask(task.Job, task.Settings)
		if err != nil {
			return // text that is no UTF-8
		}
		if err := again.parse(first); err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, err := MarshalTask(again.Job, again.Settings); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s is written again as %s: %v", first, second, err)
		}
	})
}

// FuzzOutcome holds that nothing that a worker writes makes who reads it panic, and that a layer is believed only if it is whole.
func FuzzOutcome(f *testing.F) {
	f.Add([]byte(`{"version":1,"layer":{"Blob":{"digest":"sha256:` + strings.Repeat("a", 64) + `","size":1},"DiffID":"sha256:` + strings.Repeat("a", 64) + `"}}`))
	f.Add([]byte(`{"version":1,"exit":{"code":137,"oom":true},"reason":"x"}`))
	f.Add([]byte(`{"version":1,"error":"x","usage":{"cpu":1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := ParseOutcome(text)
		if err != nil {
			return
		}
		if r, err := o.Result(); err == nil && (r.Layer.DiffID.Validate() != nil || r.Layer.Blob.Digest != r.Layer.DiffID) {
			t.Errorf("%s is believed: %+v", text, r)
		}
	})
}
