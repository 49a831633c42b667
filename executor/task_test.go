package executor

import (
	"bytes"
	"strings"
	"testing"
)

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
