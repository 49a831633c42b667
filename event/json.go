package event

import (
	"encoding/json"
	"strconv"
	"time"
)

// AppendJSON appends an event as JSON, as [json.Marshal] writes it. It needs no reflection for what every build sends: to make the
// encoder of a type costs more than a build of which all is cached has to spare. The error is that of a time which has no such form.
func AppendJSON(b []byte, e Event) (_ []byte, err error) {
	o := &object{b: append(b, '{')}
	if !e.Time.IsZero() {
		o.time("time", e.Time)
	}
	o.text("build", e.Build)
	o.key("event").quote(string(e.Kind))
	if e.Step != nil {
		o.within("step", func() { o.step(e.Step) })
	}
	if e.Blob != nil {
		o.within("blob", func() {
			o.key("digest").quote(e.Blob.Digest)
			o.text("mediaType", e.Blob.MediaType)
			o.key("state").quote(string(e.Blob.State))
			o.number("read", e.Blob.Read)
			o.number("length", e.Blob.Length)
		})
	}
	if e.Source != (Source{}) {
		o.within("source", func() {
			o.text("file", e.Source.File)
			o.number("line", int64(e.Source.Line))
			o.number("end", int64(e.Source.End))
		})
	}
	o.text("text", e.Text)
	o.number("bytes", e.Bytes)
	o.number("total", e.Total)
	o.number("duration", int64(e.Duration))
	o.text("error", e.Error)
	o.detail(&e.Detail)
	return append(o.b, '}'), o.err
}

// An object is the JSON of one, to which members are added.
type object struct {
	b   []byte
	err error
}

func (o *object) step(s *Step) {
	o.key("number").int(s.Number)
	o.key("kind").quote(string(s.Kind))
	o.key("name").quote(s.Name)
	o.text("stage", s.Stage)
	o.number("index", int64(s.Index))
	o.number("count", int64(s.Count))
	o.text("digest", s.Digest)
	if len(s.Needs) > 0 {
		o.key("needs").b = append(o.b, '[')
		for i, n := range s.Needs {
			if i > 0 {
				o.b = append(o.b, ',')
			}
			o.int(n)
		}
		o.b = append(o.b, ']')
	}
	o.text("platform", s.Platform)
	o.text("target", s.Target)
	o.list("for", s.For)
}

func (o *object) detail(d *Detail) {
	if d.Begin != nil {
		o.within("begin", func() { o.begin(d.Begin) })
	}
	if d.Failure != nil {
		o.any("failure", d.Failure)
	}
	if d.Why != nil {
		o.any("why", d.Why)
	}
	o.text("key", d.Key)
	o.text("place", d.Place)
	if d.Usage != nil {
		o.any("usage", d.Usage)
	}
	if d.Origin != nil {
		o.within("origin", func() {
			o.key("platform").quote(d.Origin.Platform)
			o.key("type").quote(d.Origin.Type)
			o.any("predicate", d.Origin.Predicate)
		})
	}
	if d.Totals != nil {
		o.within("totals", func() {
			o.key("steps").int(d.Totals.Steps)
			o.key("cached").int(d.Totals.Cached)
			o.key("done").int(d.Totals.Done)
			o.number("failed", int64(d.Totals.Failed))
			if d.Totals.Canceled {
				o.key("canceled").b = append(o.b, "true"...)
			}
		})
	}
}

func (o *object) begin(i *BuildInfo) {
	o.list("names", i.Names)
	o.key("context").quote(i.Context)
	o.text("file", i.File)
	o.text("target", i.Target)
	o.list("platforms", i.Platforms)
	o.text("dir", i.Dir)
	o.list("targets", i.Targets)
}

// key begins a member.
func (o *object) key(name string) *object {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(append(append(o.b, '"'), name...), '"', ':')
	return o
}

// within adds an object, whose members add adds.
func (o *object) within(name string, add func()) {
	o.key(name).b = append(o.b, '{')
	add()
	o.b = append(o.b, '}')
}

// text and number leave out what is zero.
func (o *object) text(name, value string) {
	if value != "" {
		o.key(name).quote(value)
	}
}

func (o *object) number(name string, value int64) {
	if value != 0 {
		o.key(name).b = strconv.AppendInt(o.b, value, 10)
	}
}

func (o *object) int(value int) { o.b = strconv.AppendInt(o.b, int64(value), 10) }

func (o *object) list(name string, values []string) {
	if len(values) == 0 {
		return
	}
	o.key(name).b = append(o.b, '[')
	for i, v := range values {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.quote(v)
	}
	o.b = append(o.b, ']')
}

func (o *object) time(name string, t time.Time) {
	text, err := t.MarshalText()
	if err != nil {
		o.err = err
	}
	o.key(name).quote(string(text))
}

func (o *object) any(name string, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		o.err, text = err, []byte("null")
	}
	o.key(name).b = append(o.b, text...)
}

func (o *object) quote(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, err := json.Marshal(s)
			if err != nil {
				o.err = err
			}
			o.b = append(o.b, text...)
			return
		}
	}
	o.b = append(append(append(o.b, '"'), s...), '"')
}
