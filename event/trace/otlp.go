package trace

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/web"
)

// A Collector is where spans are sent to, as OpenTelemetry's variables say.
type Collector struct {
	url       *url.URL
	header    http.Header
	parent    spanContext // TRACEPARENT
	resource  map[string]string
	timeLimit time.Duration
}

// A spanContext names a span of somebody's: W3C Trace Context.
type spanContext struct{ trace, span string }

// ParseCollector reads OTEL_EXPORTER_OTLP_ENDPOINT and its like, and TRACEPARENT. It is nil if no collector is named, or traces are turned off.
func ParseCollector(getenv func(string) string) (*Collector, error) {
	of := func(name string) string {
		return cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_"+name), getenv("OTEL_EXPORTER_OTLP_"+name))
	}
	endpoint := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if base := getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); endpoint == "" && base != "" {
		endpoint = strings.TrimRight(base, "/") + "/v1/traces"
	}
	if endpoint == "" || strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	if p := of("PROTOCOL"); p == "grpc" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL=grpc: forge sends OTLP over HTTP, in JSON: set http/json, and the port of that (4318)")
	}
	u, err := web.ParseURL(endpoint)
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT %s: must be an address such as http://localhost:4318", web.Redact(endpoint))
	}
	c := &Collector{url: u, header: http.Header{}, parent: parseParent(getenv("TRACEPARENT")), timeLimit: 10 * time.Second}
	for k, v := range pairs(of("HEADERS")) {
		c.header.Set(k, v)
	}
	c.header.Set("Content-Type", "application/json")
	c.resource = pairs(getenv("OTEL_RESOURCE_ATTRIBUTES"))
	c.resource["service.name"] = cmp.Or(getenv("OTEL_SERVICE_NAME"), c.resource["service.name"], "forge")
	if ms, err := strconv.Atoi(of("TIMEOUT")); err == nil && ms > 0 {
		c.timeLimit = time.Duration(ms) * time.Millisecond
	}
	return c, nil
}

// pairs reads k=v,k=v, with values escaped as in URLs.
func pairs(list string) map[string]string {
	m := map[string]string{}
	for pair := range strings.SplitSeq(list, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if value, err := url.PathUnescape(strings.TrimSpace(v)); ok && err == nil {
			m[strings.TrimSpace(k)] = value
		}
	}
	return m
}

// parseParent reads a traceparent; what is none is as if it were not there, as the specification says.
func parseParent(text string) spanContext {
	parts := strings.Split(text, "-")
	if len(parts) < 4 || parts[0] == "ff" || !isID(parts[0], 1) || !isID(parts[1], 16) || !isID(parts[2], 8) || !isID(parts[3], 1) {
		return spanContext{}
	}
	return spanContext{parts[1], parts[2]}
}

// isID reports whether text is n bytes in lower case hexadecimal, not all of them zero unless there is one.
func isID(text string, n int) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == n && strings.ToLower(text) == text && (n == 1 || strings.Trim(text, "0") != "")
}

func newID(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Send sends the build, a span with one for each step that was at work or answered.
func (c *Collector) Send(ctx context.Context, t *Trace) error {
	body, err := json.Marshal(c.request(t))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeLimit)
	defer cancel()
	client := web.New(c.url.Host, web.Options{Peer: "collector"})
	req := &web.Request{
		Method: http.MethodPost, URL: c.url, Header: c.header, Size: int64(len(body)),
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}
	resp, err := client.Send(ctx, req, web.NewBudget(web.Limits{}))
	if err != nil {
		return fmt.Errorf("traces to %s: %w", web.Redact(c.url.String()), err)
	}
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // for people
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("traces to %s: %s %s", web.Redact(c.url.String()), resp.Status, strings.TrimSpace(string(answer)))
	}
	return client.Close()
}

// The messages of OTLP, in JSON, as far as they are needed.
type (
	otlpRequest struct {
		ResourceSpans []otlpResource `json:"resourceSpans"`
	}
	otlpResource struct {
		Resource struct {
			Attributes []otlpAttribute `json:"attributes"`
		} `json:"resource"`
		ScopeSpans []otlpScope `json:"scopeSpans"`
	}
	otlpScope struct {
		Scope struct {
			Name string `json:"name"`
		} `json:"scope"`
		Spans []otlpSpan `json:"spans"`
	}
	otlpSpan struct {
		TraceID    string          `json:"traceId"`
		SpanID     string          `json:"spanId"`
		Parent     string          `json:"parentSpanId,omitempty"`
		Name       string          `json:"name"`
		Kind       int             `json:"kind"`
		Start      string          `json:"startTimeUnixNano"`
		End        string          `json:"endTimeUnixNano"`
		Attributes []otlpAttribute `json:"attributes,omitempty"`
		Status     otlpStatus      `json:"status"`
	}
	otlpStatus struct {
		Code    int    `json:"code"`
		Message string `json:"message,omitempty"`
	}
	otlpAttribute struct {
		Key   string         `json:"key"`
		Value map[string]any `json:"value"`
	}
)

// Values of OTLP's enumerations.
const (
	spanInternal = 1
	statusUnset  = 0
	statusError  = 2
)

func (c *Collector) request(t *Trace) otlpRequest {
	ids := spanContext{cmp.Or(c.parent.trace, newID(16)), newID(8)}
	scope := otlpScope{Spans: t.spans(ids, c.parent.span, func() string { return newID(8) })}
	scope.Scope.Name = "forge"
	r := otlpResource{ScopeSpans: []otlpScope{scope}}
	for k, v := range c.resource {
		r.Resource.Attributes = append(r.Resource.Attributes, otlpAttribute{k, map[string]any{"stringValue": v}})
	}
	return otlpRequest{[]otlpResource{r}}
}

// spans are that of the build, which has ids and a parent, and one for each step that was at work or answered, with an ID that next gives.
func (t *Trace) spans(ids spanContext, parent string, next func() string) []otlpSpan {
	root := otlpSpan{
		TraceID: ids.trace, SpanID: ids.span, Parent: parent, Name: "forge build " + t.Name(), Kind: spanInternal,
		Start: nanos(t.Start), End: nanos(t.End), Status: otlpStatus{Code: statusUnset},
	}
	root.put("forge.build.id", t.Build)
	root.put("forge.image.id", t.Image)
	if t.Error != "" {
		root.Status = otlpStatus{statusError, t.Error}
	}
	list := []otlpSpan{root}
	for _, s := range t.Steps() {
		if s.Start.IsZero() {
			continue
		}
		span := otlpSpan{
			TraceID: ids.trace, SpanID: next(), Parent: ids.span, Name: s.Name, Kind: spanInternal,
			Start: nanos(s.Start), End: nanos(s.End), Status: otlpStatus{Code: statusUnset},
		}
		span.put("forge.step.number", s.Number)
		span.put("forge.step.stage", s.Stage)
		args := s.arguments()
		for _, k := range []string{"state", "kind", "layer.bytes", "copied.bytes", "critical", "cache", "cpu.seconds", "memory.peak.bytes", "disk.read.bytes", "disk.written.bytes"} {
			span.put("forge.step."+k, args[k])
		}
		if s.Why != nil {
			span.put("forge.step.why", strings.Join(s.Why.Lines(), "; "))
		}
		if s.State == event.Failed {
			span.Status.Code = statusError
		}
		list = append(list, span)
	}
	return list
}

// put adds an attribute, unless it is empty.
func (s *otlpSpan) put(key string, value any) {
	var v map[string]any
	switch value := value.(type) {
	case string:
		v = map[string]any{"stringValue": value}
		if value == "" {
			return
		}
	case int:
		v = map[string]any{"intValue": strconv.Itoa(value)}
	case int64:
		v = map[string]any{"intValue": strconv.FormatInt(value, 10)}
	case float64:
		v = map[string]any{"doubleValue": value}
	case bool:
		v = map[string]any{"boolValue": value}
	default:
		return
	}
	s.Attributes = append(s.Attributes, otlpAttribute{key, v})
}

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }
