package logs

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestRecord: lines as docker writes them.
func TestRecord(t *testing.T) {
	for _, test := range []struct {
		text, attrs string
		stream      Stream
		want        string
	}{
		{"hello\n", "", Stdout, `{"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05.006Z"}`},
		{"", "", Stderr, `{"log":"","stream":"stderr","time":"2026-01-02T03:04:05.006Z"}`},
		{"a\tb\x00\x1b[0m\r\n", "", Stderr, `{"log":"a\u0009b\u0000\u001b[0m\r\n","stream":"stderr","time":"2026-01-02T03:04:05.006Z"}`},
		{`<a href="x">&\</a>`, "", Stdout, `{"log":"\u003ca href=\"x\"\u003e\u0026\\\u003c/a\u003e","stream":"stdout","time":"2026-01-02T03:04:05.006Z"}`},
		{"é\xff\xc3 \u2028\u2029\x7f€😀", "", Stdout, `{"log":"é\ufffd\ufffd \u2028\u2029` + "\x7f" + `€😀","stream":"stdout","time":"2026-01-02T03:04:05.006Z"}`},
		{"x\n", `{"k":"},\"time\":\""}`, Stdout, `{"log":"x\n","stream":"stdout","attrs":{"k":"},\"time\":\""},"time":"2026-01-02T03:04:05.006Z"}`},
	} {
		line := appendRecord(nil, []byte(test.text), test.stream, test.attrs, []byte("2026-01-02T03:04:05.006Z"))
		if string(line) != test.want+"\n" {
			t.Errorf("%q is\n%swant\n%s", test.text, line, test.want)
		}
		var d decoder
		r, ok := d.fast(line[:len(line)-1])
		if want := string([]rune(test.text)); !ok || string(r.text) != want || r.stream != test.stream || string(r.attrs) != test.attrs {
			t.Errorf("%q came back as %+v, %v", test.text, r, ok)
		}
	}
}

// TestDecode: lines that other programs wrote, and lines that are damaged.
func TestDecode(t *testing.T) {
	for _, test := range []struct {
		line, text string
		stream     Stream
		ok         bool
	}{
		{`{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}`, "a\n", Stdout, true},
		{`{"time":"2026-01-02T03:04:05Z","stream":"stderr","log":"a\n"}`, "a\n", Stderr, true},
		{`{"log":"\ud83d\ude00\b\/","stream":"stderr","time":"2026-01-02T03:04:05Z"}`, "😀\b/", Stderr, true},
		{`{"log":"\"\\\"","stream":"stderr","time":"2026-01-02T03:04:05Z"}`, `"\"`, Stderr, true},
		{`{"stream":"stderr","time":"2026-01-02T03:04:05Z"}`, "", Stderr, true},
		{`{"log":"a\n","stream":"stdout","time":"2026-01-02T`, "", 0, false},
		{`{"log":"a\`, "", 0, false},
		{`{"log":"a\u00`, "", 0, false},
		{`{"log":"a{"log":"b\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}`, "", 0, false},
		{``, "", 0, false},
		{"\x00\x00\x00", "", 0, false},
		{`{}`, "", 0, false},
	} {
		var d decoder
		r, ok := d.decode([]byte(test.line))
		if ok != test.ok || string(r.text) != test.text || ok && r.stream != test.stream {
			t.Errorf("%s is %+v, %v", test.line, r, ok)
		}
	}
}

// FuzzEscape: the escaping is that of encoding/json, but for the three characters that docker writes in the long form;
// and what is written is read back, by us and by encoding/json.
func FuzzEscape(f *testing.F) {
	f.Add([]byte("plain <b>\"bold\"</b> & \t\b\f\r\n\\ \xff\xfe é€😀 \u2028"))
	f.Add([]byte("\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf\ufffd\\u0041"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := appendEscaped(nil, text)
		want, err := json.Marshal(string(text))
		if err != nil {
			t.Fatal(err)
		}
		var short, long string
		if err := json.Unmarshal(want, &short); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(`"`+string(got)+`"`), &long); err != nil || short != long {
			t.Fatalf("%q was written as %s, %v", text, got, err)
		}
		if !bytes.ContainsAny(text, "\t\b\f") && string(want) != `"`+string(got)+`"` {
			t.Errorf("%q is %s, json writes %s", text, got, want)
		}
		var d decoder
		line := appendRecord(nil, text, Stderr, "", []byte("2026-01-02T03:04:05Z"))
		if r, ok := d.fast(line[:len(line)-1]); !ok || string(r.text) != short || r.stream != Stderr {
			t.Errorf("%q came back as %q, %v", text, r.text, ok)
		}
	})
}

// FuzzDecode: whatever a line is, what is read quickly is what encoding/json reads.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"log":"a\n\u0009","stream":"stdout","attrs":{"a":"b"},"time":"2026-01-02T03:04:05Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var d decoder
		r, ok := d.fast(line)
		var want struct {
			Log, Stream, Time string
			Attrs             json.RawMessage
		}
		if !ok || !json.Valid(line) || bytes.ContainsRune(line, '\ufffd') || bytes.Contains(r.stamp, []byte(`\`)) {
			return
		}
		if err := json.Unmarshal(line, &want); err != nil || len(r.attrs) > 0 {
			return // a key twice, or attributes that are no object
		}
		if string(r.text) != want.Log || r.stream.String() != want.Stream || string(r.stamp) != want.Time {
			t.Errorf("%s is %+v", line, r)
		}
	})
}

// BenchmarkWrite is output on its way into a log, without the reading of it and with rotation.
func BenchmarkWrite(b *testing.B) {
	for _, test := range []struct{ name, line string }{
		{"short", "2026-01-02 03:04:05 INFO request done in 12 ms\n"},
		{"access", `10.0.0.1 - - [02/Jan/2026:03:04:05 +0000] "GET /index.html?a=1&b=2 HTTP/1.1" 200 5123 "-" "Mozilla/5.0 (X11; Linux x86_64)"` + "\n"},
		{"unicode", strings.Repeat("größer – 日本語 ", 8) + "\n"},
		{"long", strings.Repeat("0123456789abcdef", 4096) + "\n"},
	} {
		b.Run(test.name, func(b *testing.B) {
			w, err := Open(b.TempDir()+"/log", Config{MaxSize: 10e6, MaxFiles: 3})
			if err != nil {
				b.Fatal(err)
			}
			chunk := []byte(strings.Repeat(test.line, 1+65536/len(test.line)))[:65536]
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				w.Write(Stdout, chunk, time.Now())
				w.Flush()
			}
			w.Close()
		})
	}
}

// BenchmarkDecode is the reading of records.
func BenchmarkDecode(b *testing.B) {
	line := appendRecord(nil, []byte("2026-01-02 03:04:05 INFO \"request\" done in 12 ms\n"), Stdout, "", []byte("2026-01-02T03:04:05.123456789Z"))
	b.SetBytes(int64(len(line)))
	var d decoder
	for b.Loop() {
		if _, ok := d.decode(line[:len(line)-1]); !ok {
			b.Fatal("not a record")
		}
	}
}
