package trace_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/event/trace"
)

const hostile = `RUN "</style><script>alert(1)</script><img src=x onerror=alert(2)>' &amp; 依存` + "\x1b[31m\u202e"

// A maker makes the events of a build, at milliseconds since it began.
type maker struct {
	trace.Trace
	start time.Time
}

func newMaker(names ...string) *maker {
	m := &maker{start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	m.at(0, event.Event{Kind: event.Begun, Detail: event.Detail{Begin: &event.BuildInfo{Names: names, Context: "."}}})
	return m
}

func (m *maker) at(ms int, e event.Event) {
	e.Time, e.Build = m.start.Add(time.Duration(ms)*time.Millisecond), "b1"
	m.Event(e)
}

func (m *maker) step(n int, kind event.StepKind, stage, name string, needs ...int) *event.Step {
	s := &event.Step{Number: n, Kind: kind, Stage: stage, Name: name, Needs: needs}
	m.at(0, event.Event{Kind: event.Planned, Step: s})
	return s
}

func (m *maker) ran(s *event.Step, from, to int, end event.Event) {
	m.at(from, event.Event{Kind: event.Started, Step: s})
	end.Step, end.Duration = s, time.Duration(to-from)*time.Millisecond
	if end.Kind == "" {
		end.Kind = event.Done
	}
	m.at(to, end)
}

// example is a build of two stages: the base comes slowly, a COPY has changed, and what stands on it waits.
func example() *maker {
	m := newMaker("app:ci")
	base := m.step(1, event.Base, "build", "FROM base")
	copied := m.step(2, event.Copy, "build", "COPY . .", 1)
	run := m.step(3, event.Run, "build", hostile, 2)
	other := m.step(4, event.Run, "tools", "RUN other", 1)
	last := m.step(5, event.Copy, "stage-2", "COPY --from=build / /", 3, 4)
	unmet := m.step(6, event.Run, "stage-2", "RUN cached", 4)
	push := m.step(7, event.Push, "", "push app:ci")
	m.at(10, event.Event{Kind: event.Started, Step: base})
	for _, n := range []int64{10, 6 << 20} {
		m.at(1000, event.Event{Kind: event.Blob, Step: base, Bytes: n, Total: 6 << 20, Blob: &event.BlobInfo{Digest: "sha256:1", State: event.Copying}})
	}
	m.at(2000, event.Event{Kind: event.Done, Step: base, Duration: 2 * time.Second})
	m.ran(copied, 2000, 2500, event.Event{Bytes: 300 << 20})
	m.at(2000, event.Event{Kind: event.Cached, Step: unmet, Duration: time.Minute, Detail: event.Detail{Place: "registry/app"}})
	why := &event.Why{Reason: event.Changed, Changes: []event.Change{{Field: "file", Name: "/a<b>", How: event.Added}}}
	m.at(2400, event.Event{Kind: event.Explain, Step: copied, Detail: event.Detail{Why: why}})
	m.ran(run, 2500, 6500, event.Event{Detail: event.Detail{Usage: &event.Usage{CPU: 400 * time.Millisecond, Memory: 80 << 20}}})
	m.ran(other, 2000, 3000, event.Event{})
	m.ran(last, 6500, 6600, event.Event{Bytes: 5})
	m.ran(push, 6700, 7000, event.Event{})
	m.at(7010, event.Event{Kind: event.Ended, Text: "sha256:result"})
	return m
}

func TestCriticalPath(t *testing.T) {
	t.Parallel()
	m := example()
	var path []int
	for _, s := range m.Steps() {
		if s.Critical {
			path = append(path, s.Number)
		}
	}
	if want := []int{1, 2, 3, 5, 7}; !slices.Equal(path, want) {
		t.Errorf("critical are %v, want %v", path, want)
	}
	if m.Duration() != 7010*time.Millisecond || m.Steps()[0].Copied != 6<<20 {
		t.Errorf("took %v, the base brought %d bytes", m.Duration(), m.Steps()[0].Copied)
	}
}

func TestAdvice(t *testing.T) {
	t.Parallel()
	want := []string{"#2 COPY . . was not in the cache (file /a<b> is new), and 2 steps", "#3 RUN ", "#1 FROM base: 6.29MB in 2.0s", "#2 COPY . . copies 315MB"}
	got := example().Advice()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("advice is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !strings.Contains(got[1], "4.0s of 7.0s. It kept 0.1 processors busy. It has mostly waited") {
		t.Errorf("of the longest step it says %s", got[1])
	}
	fast := newMaker("app")
	fast.at(20, event.Event{Kind: event.Cached, Step: fast.step(1, event.Run, "s", "RUN a")})
	fast.at(30, event.Event{Kind: event.Ended})
	if got := fast.Advice(); len(got) > 0 {
		t.Errorf("a build that did nothing is told %q", got)
	}
}

// TestHTML reads the page as a browser does: what strangers have named is text, there is no script, and all that is shown of a step is there.
func TestHTML(t *testing.T) {
	t.Parallel()
	m := example()
	m.Begin.Names = []string{hostile}
	m.at(7020, event.Event{Kind: event.Ended, Error: hostile})
	for n := 8; n < 300; n++ {
		m.ran(m.step(n, event.Run, hostile, fmt.Sprint("RUN ", n), n-1), n*10, n*10+5, event.Event{})
	}
	var b bytes.Buffer
	if err := m.HTML(&b); err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	rows, shown, policy := 0, 0, false
	for n := range root.Descendants() {
		switch {
		case n.Type == html.TextNode && strings.Contains(n.Data, "<script>alert(1)</script>"):
			shown++
			if strings.ContainsAny(n.Data, "\x1b\u202e") {
				t.Errorf("control characters in %q", n.Data)
			}
		case n.Type != html.ElementNode:
		case slices.Contains([]string{"script", "img", "iframe", "object", "link", "base", "a", "form"}, n.Data):
			t.Errorf("the page has a %s", n.Data)
		case n.Data == "tr":
			rows++
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "href" {
				t.Errorf("the page has %s=%s", a.Key, a.Val)
			}
			policy = policy || a.Key == "content" && a.Val == "default-src 'none'; style-src 'unsafe-inline'"
		}
	}
	if rows != 300 || shown < 5 || !policy {
		t.Errorf("%d rows, want 300 with the head; the name is shown %d times; policy %v", rows, shown, policy)
	}
}

func TestChrome(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := example().Chrome(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		TraceEvents []struct {
			Name, Ph string
			TS, Dur  float64
			TID      int
			Args     map[string]any
		}
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	threads, ends := map[int]string{}, map[int]float64{}
	for _, e := range got.TraceEvents {
		switch e.Ph {
		case "M":
			threads[e.TID], _ = e.Args["name"].(string)
		case "X":
			if e.TS < ends[e.TID] {
				t.Errorf("%s overlaps another of its thread", e.Name)
			}
			ends[e.TID] = e.TS + e.Dur
			if e.Name == "#2 COPY . ." && (e.TS != 2e6 || e.Dur != 5e5 || threads[e.TID] != "build" || e.Args["layer.bytes"] != float64(300<<20)) {
				t.Errorf("COPY is %+v in %s", e, threads[e.TID])
			}
		}
	}
	if len(ends) != 4 {
		t.Errorf("%d threads have steps, want one a stage and one for the result", len(ends))
	}
}

// TestSend sends spans to a collector, as those of the span that the caller names.
func TestSend(t *testing.T) {
	t.Parallel()
	var path, auth string
	var body []byte
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, auth = r.URL.Path, r.Header.Get("Authorization")
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "no room")
	}))
	defer s.Close()
	env := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": s.URL + "/", "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20x", "OTEL_SERVICE_NAME": "ci",
		"TRACEPARENT": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}
	collector, err := trace.ParseCollector(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	m := example()
	if err := collector.Send(t.Context(), &m.Trace); err != nil {
		t.Fatal(err)
	}
	var got struct {
		ResourceSpans []struct {
			Resource   struct{ Attributes []struct{ Key string } }
			ScopeSpans []struct {
				Spans []struct{ TraceID, SpanID, ParentSpanID, Name, StartTimeUnixNano, EndTimeUnixNano string }
			}
		}
	}
	if err := json.Unmarshal(body, &got); err != nil || path != "/v1/traces" || auth != "Bearer x" {
		t.Fatalf("to %s with %q came %s, %v", path, auth, body, err)
	}
	spans := got.ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 8 {
		t.Fatalf("%d spans, want the build and 7 steps", len(spans))
	}
	root := spans[0]
	for _, span := range spans {
		parent := root.SpanID
		if span.SpanID == root.SpanID {
			parent = "00f067aa0ba902b7"
		}
		if span.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" || span.ParentSpanID != parent || len(span.SpanID) != 16 {
			t.Errorf("span %+v, want one of the caller's trace below %s", span, parent)
		}
	}
	if s := spans[2]; s.Name != "COPY . ." || s.StartTimeUnixNano != "1767323047000000000" || s.EndTimeUnixNano != "1767323047500000000" {
		t.Errorf("the COPY is %+v", s)
	}
	status = http.StatusServiceUnavailable
	if err := collector.Send(t.Context(), &m.Trace); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a collector that refuses: %v", err)
	}
}

func TestParseCollector(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env  string
		none bool
		err  string
	}{
		{"", true, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:4318 OTEL_SDK_DISABLED=true", true, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:4318 OTEL_TRACES_EXPORTER=none", true, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:4318 TRACEPARENT=00-0-0-0", false, ""},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://h/x", false, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=h:4318", false, "must be an address"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://h:4317 OTEL_EXPORTER_OTLP_PROTOCOL=grpc", false, "http/json"},
	} {
		env := map[string]string{}
		for _, kv := range strings.Fields(test.env) {
			k, v, _ := strings.Cut(kv, "=")
			env[k] = v
		}
		c, err := trace.ParseCollector(func(name string) string { return env[name] })
		if (c == nil) != (test.none || test.err != "") || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v, %v", test.env, c, err)
		}
	}
}

// TestSpans writes a build as BuildKit keeps traces.
func TestSpans(t *testing.T) {
	var text, again bytes.Buffer
	if err := errors.Join(example().Spans(&text), example().Spans(&again)); err != nil || text.String() != again.String() {
		t.Fatalf("the same build gives %s and %s, %v", &text, &again, err)
	}
	type span struct {
		Name                string
		SpanContext, Parent struct{ TraceID, SpanID string }
		StartTime, EndTime  time.Time
		Attributes          []struct {
			Key   string
			Value struct {
				Type  string
				Value any
			}
		}
	}
	var all []span
	for dec := json.NewDecoder(&text); ; {
		var s span
		if err := dec.Decode(&s); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if len(all) < 3 || all[0].Name != "forge build app:ci" || strings.Trim(all[0].Parent.SpanID, "0") != "" {
		t.Fatalf("the spans are %+v", all)
	}
	seen := map[string]bool{}
	for i, s := range all {
		if len(s.SpanContext.TraceID) != 32 || len(s.SpanContext.SpanID) != 16 || s.SpanContext.TraceID != all[0].SpanContext.TraceID || seen[s.SpanContext.SpanID] {
			t.Errorf("span %+v", s)
		}
		seen[s.SpanContext.SpanID] = true
		if i > 0 && s.Parent.SpanID != all[0].SpanContext.SpanID || s.EndTime.Before(s.StartTime) || s.StartTime.Year() != 2026 {
			t.Errorf("span %+v", s)
		}
		for _, a := range s.Attributes {
			_, number := a.Value.Value.(float64)
			if a.Value.Type == "" || number != (a.Value.Type == "INT64" || a.Value.Type == "FLOAT64") {
				t.Errorf("attribute %+v of %s", a, s.Name)
			}
		}
	}
}
