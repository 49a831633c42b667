package words_test

import (
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/container/words"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("CET", 3600))

func ago(d time.Duration) time.Time { return now.Add(-d) }

func TestLine(t *testing.T) {
	for _, test := range []struct {
		state words.State
		want  string
	}{
		{words.State{Status: "created"}, "Created"},
		{words.State{Status: "running", Started: ago(300 * time.Millisecond)}, "Up Less than a second"},
		{words.State{Status: "running", Started: ago(5 * time.Second)}, "Up 5 seconds"},
		{words.State{Status: "running", Started: ago(time.Minute)}, "Up About a minute"},
		{words.State{Status: "running", Started: ago(2 * time.Hour)}, "Up 2 hours"},
		{words.State{Status: "running", Started: ago(-time.Hour)}, "Up Less than a second"},
		{words.State{Status: "running", Started: ago(3 * time.Minute), Health: "healthy"}, "Up 3 minutes (healthy)"},
		{words.State{Status: "running", Started: ago(3 * time.Minute), Health: "unhealthy"}, "Up 3 minutes (unhealthy)"},
		{words.State{Status: "running", Started: ago(3 * time.Minute), Health: "starting"}, "Up 3 minutes (health: starting)"},
		{words.State{Status: "paused", Started: ago(3 * time.Minute), Health: "healthy"}, "Up 3 minutes (Paused)"},
		{words.State{Status: "restarting", ExitCode: 3, Started: ago(time.Hour), Finished: ago(5 * time.Second)}, "Restarting (3) 5 seconds ago"},
		{words.State{Status: "exited", ExitCode: 137, Started: ago(time.Hour), Finished: ago(2 * time.Minute)}, "Exited (137) 2 minutes ago"},
		{words.State{Status: "exited", Started: ago(time.Hour)}, ""},
		{words.State{Status: "removing"}, "Removal In Progress"},
		{words.State{Status: "dead"}, "Dead"},
	} {
		if got := test.state.Line(now); got != test.want {
			t.Errorf("%+v is %q, want %q", test.state, got, test.want)
		}
	}
}

func TestColumns(t *testing.T) {
	for got, want := range map[string]string{
		words.Command("sh", nil):                                          "sh",
		words.Command("sh", []string{"-c", "a b"}):                        "sh -c 'a b'",
		words.Shorten("nginx -g daemon off;", 20):                         "nginx -g daemon off;",
		words.Shorten("/docker-entrypoint.sh nginx -g 'daemon off;'", 20): "/docker-entrypoint.…",
		words.Shorten("größer und größer und größer", 20):                 "größer und größer u…",
		words.Shorten("日本語日本語日本語日本語", 20):                                 "日本語日本語日本語…",
		words.Shorten("", 20):                                             "",
		words.Size(2, 0):                                                  "2B",
		words.Size(12345, 21_500_000):                                     "12.3kB (virtual 21.5MB)",
		words.Ago(now, ago(26*time.Hour)):                                 "26 hours ago",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	tcp := func(ip string, host, port uint16) words.Port {
		return words.Port{HostIP: ip, Host: host, Port: port, Protocol: "tcp"}
	}
	for _, test := range []struct {
		ports []words.Port
		want  string
	}{
		{nil, ""},
		{[]words.Port{tcp("", 0, 80)}, "80/tcp"},
		{[]words.Port{tcp("::", 8080, 80), tcp("0.0.0.0", 8080, 80)}, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"},
		{[]words.Port{tcp("0.0.0.0", 80, 80), tcp("::", 80, 80), tcp("", 0, 443)}, "0.0.0.0:80->80/tcp, [::]:80->80/tcp, 443/tcp"},
		{[]words.Port{tcp("", 0, 7002), tcp("", 0, 7000), tcp("", 0, 7001), tcp("", 0, 9)}, "9/tcp, 7000-7002/tcp"},
		{[]words.Port{tcp("", 0, 53), {Port: 53, Protocol: "udp"}, {Port: 54, Protocol: "udp"}}, "53/tcp, 53-54/udp"},
		{[]words.Port{tcp("127.0.0.1", 80, 80), tcp("127.0.0.1", 81, 81), tcp("127.0.0.1", 83, 83)}, "127.0.0.1:80-81->80-81/tcp, 127.0.0.1:83->83/tcp"},
		{
			[]words.Port{tcp("0.0.0.0", 8000, 80), tcp("0.0.0.0", 8001, 81), tcp("0.0.0.0", 8002, 82), tcp("::", 8000, 80), tcp("::", 8001, 81), tcp("::", 8002, 82)},
			"0.0.0.0:8000-8002->80-82/tcp, [::]:8000-8002->80-82/tcp",
		},
		{[]words.Port{tcp("0.0.0.0", 8000, 80), tcp("0.0.0.0", 8002, 81), tcp("", 0, 90)}, "90/tcp, 0.0.0.0:8000->80/tcp, 0.0.0.0:8002->81/tcp"},
		{[]words.Port{tcp("0.0.0.0", 8000, 80), tcp("0.0.0.0", 9000, 80)}, "0.0.0.0:8000->80/tcp, 0.0.0.0:9000->80/tcp"},
	} {
		if got := words.Ports(test.ports); got != test.want {
			t.Errorf("%v is %q, want %q", test.ports, got, test.want)
		}
	}
}

func TestRefusal(t *testing.T) {
	for _, test := range []struct{ verb, status, want string }{
		{"attach", "exited", "cannot attach to a stopped container, start it first"},
		{"attach", "paused", "cannot attach to a paused container, unpause it first"},
		{"attach", "restarting", "cannot attach to a restarting container, wait until it is running"},
		{"attach", "running", ""},
		{"exec", "created", "container 0123 is not running"},
		{"exec", "paused", "Container 0123 is paused, unpause the container before exec"},
		{"exec", "restarting", "Container 0123 is restarting, wait until the container is running"},
		{"exec", "running", ""},
		{"top", "exited", "container 0123 is not running"},
		{"top", "paused", ""},
		{"pause", "exited", "container 0123 is not running"},
		{"pause", "paused", "Container 0123 is already paused"},
		{"unpause", "running", "Container 0123 is not paused"},
		{"unpause", "paused", ""},
		{"kill", "exited", "cannot kill container: web: container 0123 is not running"},
		{"kill", "restarting", ""},
		{"start", "paused", "cannot start a paused container, try unpause instead"},
		{"start", "running", ""},
		{"start", "dead", "container is marked for removal and cannot be started"},
		{"rm", "running", `cannot remove container "web": container is running: stop the container before removing or force remove`},
		{"rm", "restarting", `cannot remove container "web": container is restarting: stop the container before removing or force remove`},
		{"rm", "paused", `cannot remove container "web": container is paused and must be unpaused first`},
		{"rm", "exited", ""},
		{"stop", "exited", ""},
	} {
		got := ""
		if err := words.Refusal(test.verb, "web", "0123", test.status); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s of a container that is %s: %q, want %q", test.verb, test.status, got, test.want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"web": true, "a1": true, "0_.-": true, "": false, "a": false, "_a": false, ".a": false, "-a": false, "a/b": false, "a b": false, "é1": false, "/web": false, "aé": false,
	} {
		err := words.CheckName(name)
		if (err == nil) != ok || err != nil && err.Error() != "Invalid container name ("+name+"), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" {
			t.Errorf("%q: %v", name, err)
		}
	}
	taken := map[string]bool{}
	for range 20_000 { // more than there are pairs of words
		name := words.Name(func(name string) bool { return taken[name] })
		if taken[name] || words.CheckName(name) != nil || strings.Count(name, "_") != 1 {
			t.Fatalf("name %q is bad", name)
		}
		taken[name] = true
	}
}

func TestParseTime(t *testing.T) {
	for value, want := range map[string]string{
		"":                               "0001-01-01T00:00:00Z",
		"10m":                            "2026-01-02T02:54:05+01:00",
		"1h30m":                          "2026-01-02T01:34:05+01:00",
		"500ms":                          "2026-01-02T03:04:04.5+01:00",
		"2026-01-01":                     "2026-01-01T00:00:00+01:00",
		"2026-01-01Z":                    "2026-01-01T00:00:00Z",
		"2026-01-01+02:00":               "2026-01-01T00:00:00+02:00",
		"2026-01-01T10":                  "2026-01-01T10:00:00+01:00",
		"2026-01-01T10:11":               "2026-01-01T10:11:00+01:00",
		"2026-01-01T10:11:12":            "2026-01-01T10:11:12+01:00",
		"2026-01-01T10:11:12.123":        "2026-01-01T10:11:12.123+01:00",
		"2026-01-01T10Z":                 "2026-01-01T10:00:00Z",
		"2026-01-01T10:11Z":              "2026-01-01T10:11:00Z",
		"2026-01-01T10:11:12.123456789Z": "2026-01-01T10:11:12.123456789Z",
		"2026-01-01T10:11-05:00":         "2026-01-01T10:11:00-05:00",
		"2026-01-01T10:11:12-05:00":      "2026-01-01T10:11:12-05:00",
		"1136073600":                     "2006-01-01T00:00:00Z",
		"1136073600.000000001":           "2006-01-01T00:00:00.000000001Z",
		"1136073600.5":                   "2006-01-01T00:00:00.5Z",
		"1136073600.5000000009":          "2006-01-01T00:00:00.5Z",
		"0":                              "1970-01-01T00:00:00Z",
		"yesterday":                      `failed to parse value as time or duration: "yesterday"`,
		"1136073600.-5":                  `parsing time "1136073600.-5" as "2006-01-02T15:04:05.999999999": cannot parse "073600.-5" as "-"`,
		"2026-13-01":                     `parsing time "2026-13-01": month out of range`,
	} {
		at, err := words.ParseTime(value, now)
		got := at.Format(time.RFC3339Nano)
		if strings.HasPrefix(value, "1136") || value == "0" {
			got = at.UTC().Format(time.RFC3339Nano)
		}
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q is %s, want %s", value, got, want)
		}
	}
}

func TestPublished(t *testing.T) {
	ports := []words.Port{
		{"::", 8080, 80, "tcp"}, {"0.0.0.0", 8080, 80, "tcp"}, {"127.0.0.1", 53, 53, "udp"}, {"", 0, 443, "tcp"}, {"0.0.0.0", 9, 8, "tcp"},
	}
	for asked, want := range map[string]string{
		"":       "8/tcp -> 0.0.0.0:9|53/udp -> 127.0.0.1:53|80/tcp -> 0.0.0.0:8080|80/tcp -> [::]:8080",
		"80":     "0.0.0.0:8080|[::]:8080",
		"80/tcp": "0.0.0.0:8080|[::]:8080",
		"80/udp": "", "443": "", "53": "", "53/udp": "127.0.0.1:53",
		"x/tcp": "invalid port (x)", "70000": "invalid port (70000)",
	} {
		lines, err := words.Published(ports, asked)
		got := strings.Join(lines, "|")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("Published(%q) = %q, want %q", asked, got, want)
		}
	}
}
