package trace

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Spans writes the build as BuildKit keeps traces of builds: a JSON object for each span, in the form of OpenTelemetry's Go library. The same
// build gives the same bytes.
func (t *Trace) Spans(w io.Writer) error {
	n := 0
	id := func(size int) string {
		n++
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", t.Build, n))
		return hex.EncodeToString(sum[:size])
	}
	ids := spanContext{id(16), id(8)}
	enc := json.NewEncoder(w)
	for _, s := range t.spans(ids, "", func() string { return id(8) }) {
		if err := enc.Encode(s.kept()); err != nil {
			return err
		}
	}
	return nil
}

// A keptSpan is a span as BuildKit keeps it.
type keptSpan struct {
	Name                   string
	SpanContext, Parent    keptContext
	SpanKind               int
	StartTime, EndTime     time.Time
	Attributes             []keptAttribute
	Status                 keptStatus
	Resource               []keptAttribute
	InstrumentationLibrary struct{ Name string }
}

type keptContext struct{ TraceID, SpanID, TraceFlags string }

type keptStatus struct {
	Code        int
	Description string
}

type keptAttribute struct {
	Key   string
	Value keptValue
}

type keptValue struct {
	Type  string
	Value any
}

// keptError is the code of a span that has failed, which OTLP numbers in another way.
const keptError = 1

// kept is a span in that form.
func (s *otlpSpan) kept() keptSpan {
	k := keptSpan{
		Name: s.Name, SpanContext: keptContext{s.TraceID, s.SpanID, "01"}, Parent: keptContext{s.TraceID, s.Parent, "01"}, SpanKind: s.Kind,
		StartTime: timeOf(s.Start), EndTime: timeOf(s.End), Attributes: []keptAttribute{},
		Resource: []keptAttribute{{"service.name", keptValue{"STRING", "forge"}}},
	}
	if s.Parent == "" {
		k.Parent = keptContext{"00000000000000000000000000000000", "0000000000000000", "00"}
	}
	if s.Status.Code == statusError {
		k.Status = keptStatus{keptError, s.Status.Message}
	}
	k.InstrumentationLibrary.Name = "forge"
	for _, a := range s.Attributes {
		for kind, v := range a.Value { // there is one
			k.Attributes = append(k.Attributes, keptAttribute{a.Key, keptOf(kind, v)})
		}
	}
	return k
}

// keptOf is the value of an attribute, of a kind of OTLP's.
func keptOf(kind string, v any) keptValue {
	names := map[string]string{"stringValue": "STRING", "intValue": "INT64", "doubleValue": "FLOAT64", "boolValue": "BOOL"}
	if kind == "intValue" { // in OTLP it is a string
		v = json.Number(fmt.Sprint(v))
	}
	return keptValue{names[kind], v}
}

// timeOf is the opposite of nanos.
func timeOf(text string) time.Time {
	n, _ := strconv.ParseInt(text, 10, 64) // nanos has written it
	return time.Unix(0, n).UTC()
}
