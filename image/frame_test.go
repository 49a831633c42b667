package image

import (
	"bytes"
	"testing"
)

// TestFrames holds that frames give back what they hold, within a bound that a small frame cannot break.
func TestFrames(t *testing.T) {
	w, err := NewFrameWriter()
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewFrameReader(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, n := range []int{0, 1, 1000, 1 << 20} {
		data := bytes.Repeat([]byte("abcdefg"), n/7+1)[:n]
		frame := w.Append([]byte("before"), data)[len("before"):]
		got, err := r.Append(nil, frame)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes became %d, %v", n, len(got), err)
		}
	}
	bomb := w.Append(nil, make([]byte, 16<<20))
	if got, err := r.Append(nil, bomb); err == nil || len(got) > 0 {
		t.Errorf("a frame of %d bytes gave %d, want it refused", len(bomb), len(got))
	}
}
