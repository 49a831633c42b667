package logs_test

import (
	"fmt"
	"testing"

	"github.com/forge-build/forge/container/logs"
)

// TestParseConfig: docker's options, limits and errors.
func TestParseConfig(t *testing.T) {
	subject := logs.Subject{
		ID: "0123456789abcdef", Name: "web", ImageID: "sha256:0123456789", ImageName: "nginx:1",
		Env: []string{"A=1", "AB=2=3", "C"}, Labels: map[string]string{"app": "x", "tier": "<y>"},
	}
	type options = map[string]string
	for _, test := range []struct {
		driver  string
		options options
		want    string
	}{
		{"", nil, "10000000 3 false"},
		{"json-file", options{"max-size": "10k", "max-file": "5", "compress": "true"}, "10000 5 true"},
		{"json-file", options{"max-size": "-1"}, "0 3 false"},
		{"json-file", options{"max-size": "1g", "max-file": "1", "compress": "false", "mode": "blocking"}, "1000000000 1 false"},
		{"local", nil, "20971520 5 true"},
		{"local", options{"max-size": "1m", "max-file": "2", "mode": "non-blocking", "max-buffer-size": "4m"}, "1000000 2 true"},
		{"local", options{"max-file": "1", "compress": "false"}, "20971520 1 false"},
		{"none", options{"what": "ever"}, "none"},
		{"", options{"labels": "app,none", "env": "A", "tag": "{{.Name}}/{{.ID}}/{{.ImageID}}"}, `10000000 3 false {"A":"1","app":"x","tag":"web/0123456789ab/sha256:01234"}`},
		{"", options{"labels-regex": "^t", "env-regex": "B"}, `10000000 3 false {"AB":"2=3","tier":"\u003cy\u003e"}`},

		{"syslog", nil, "logger: no log driver named 'syslog' is registered"},
		{"", options{"max-sise": "1"}, "unknown log opt 'max-sise' for json-file log driver"},
		{"local", options{"max-sise": "1"}, "unknown log opt 'max-sise' for log driver local"},
		{"", options{"max-size": "x"}, "invalid size: 'x'"},
		{"", options{"max-size": "0"}, "max-size must be a positive number"},
		{"", options{"max-file": "0"}, "max-file cannot be less than 1"},
		{"", options{"max-file": "x"}, `strconv.Atoi: parsing "x": invalid syntax`},
		{"", options{"compress": "maybe"}, `strconv.ParseBool: parsing "maybe": invalid syntax`},
		{"", options{"compress": "true", "max-file": "1"}, "compress cannot be true when max-file is less than 2 or max-size is not set"},
		{"", options{"compress": "true", "max-size": "-1"}, "compress cannot be true when max-file is less than 2 or max-size is not set"},
		{"local", options{"max-file": "1"}, "compression cannot be enabled when max file count is 1"},
		{"local", options{"max-size": "x"}, "invalid value for max-size: x: invalid size: 'x'"},
		{"local", options{"compress": "x"}, `invalid boolean value for compress: strconv.ParseBool: parsing "x": invalid syntax`},
		{"", options{"mode": "fast"}, "logger: logging mode not supported: fast"},
		{"", options{"max-buffer-size": "1m"}, "logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
		{"", options{"max-buffer-size": "x", "mode": "non-blocking"}, "error parsing option max-buffer-size: invalid size: 'x'"},
		{"", options{"env-regex": "("}, "error parsing regexp: missing closing ): `(`"},
		{"", options{"tag": `{{upper .Name}} {{title .Name}} {{truncate .FullID 3}} {{pad .Name 1 0}} {{json .Name}} {{join (split .ImageID ":") "."}} {{lower "A"}}{{print "x"}}`}, `10000000 3 false {"tag":"WEB Web 012  web \"web\" sha256.01234 ax"}`},
		{"", options{"tag": "{{pad .Name 1000000000 0}}"}, `template: log-tag:1:2: executing "log-tag" at <pad .Name 1000000000 0>: error calling pad: more than 65536 spaces`},
		{"", options{"tag": "{{"}, "template: log-tag:1: unclosed action"},
	} {
		c, err := logs.ParseConfig(test.driver, test.options, subject)
		got := "none"
		switch {
		case err != nil:
			got = err.Error()
		case c != nil:
			got = fmt.Sprint(c.MaxSize, c.MaxFiles, c.Compress)
			if c.Attrs != "" {
				got += " " + c.Attrs
			}
		}
		if got != test.want {
			t.Errorf("%s %v: %s, want %s", test.driver, test.options, got, test.want)
		}
	}
}

// TestAttributesOfOneName: of a label and a variable of one name the variable counts, each time.
func TestAttributesOfOneName(t *testing.T) {
	subject := logs.Subject{Env: []string{"A=variable"}, Labels: map[string]string{"A": "label"}}
	for range 50 {
		c, err := logs.ParseConfig("", map[string]string{"labels": "A", "env-regex": "A"}, subject)
		if err != nil {
			t.Fatal(err)
		}
		if c.Attrs != `{"A":"variable"}` {
			t.Fatal(c.Attrs)
		}
	}
}
