package web

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"http://user:pass@host/a@b", "http://xxxxx@host/a@b"},
		{"https://token@host", "https://xxxxx@host"},
		{"https://token@host/x.git#v1:dir", "https://xxxxx@host/x.git#v1:dir"},
		{"HTTPS://token@host/", "HTTPS://xxxxx@host/"},
		{"https://a@b:c@host?x", "https://xxxxx@host?x"},
		{"https://user:pa/ss@host/x", "https://xxxxx@host/x"},
		{"https://user:pa#ss@host/x", "https://xxxxx@host/x"},
		{"https://user:pa%zz@host/x", "https://xxxxx@host/x"},
		{"https://host/a@b", "https://host/a@b"},
		{"https://host:443/a@b", "https://host:443/a@b"},
		{"https://[::1]:443/a@b", "https://[::1]:443/a@b"},
		{"ssh://git@host/x", "ssh://git@host/x"},
		{"ssh://git:pass@host/x", "ssh://xxxxx@host/x"},
		{"git@host:x", "git@host:x"},
		{"a", "a"},
		{"", ""},
		{"https://h/x?a=1&token=t&b", "https://h/x?a=1&token=xxxxx&b"},
		{"https://h/x?X-Amz-Credential=c&X-Amz-Date=d&X-Amz-Signature=s", "https://h/x?X-Amz-Credential=xxxxx&X-Amz-Date=d&X-Amz-Signature=xxxxx"},
		{"https://h/x?sv=1&sig=s&se=2", "https://h/x?sv=1&sig=xxxxx&se=2"},
		{"https://h/x?private_token=t;access%5Ftoken=u#f", "https://h/x?private_token=xxxxx;access%5Ftoken=xxxxx#f"},
		{"https://h/x?key=&page=2&design=3&monkey=4", "https://h/x?key=&page=2&design=3&monkey=4"},
		{"https://h/x.git?ref=v1&checksum=abc", "https://h/x.git?ref=v1&checksum=abc"},
	} {
		if got := Redact(test.in); got != test.want {
			t.Errorf("Redact(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestRedactText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"fatal: unable to access 'http://ali:sesame@h/x.git/': no", "fatal: unable to access 'http://xxxxx@h/x.git/': no"},
		{"fatal: 'https://tok@h/x' and (https://tok@h/y), url=https://a:b@c/d?token=t", "fatal: 'https://xxxxx@h/x' and (https://xxxxx@h/y), url=https://xxxxx@c/d?token=xxxxx"},
		{"no address", "no address"},
		{"://", "://"},
	} {
		if got := RedactText(test.in); got != test.want {
			t.Errorf("RedactText(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestWithoutLogin(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://token@host/x?a=b#c": "https://host/x?a=b#c", "https://u:p/w@host/x": "https://host/x", "ssh://git@host/x": "ssh://host/x",
		"https://host/a@b": "https://host/a@b", "git@host:x": "git@host:x", "": "",
	} {
		if got := WithoutLogin(in); got != want {
			t.Errorf("WithoutLogin(%q) = %q, want %q", in, got, want)
		}
	}
	if _, err := ParseURL("https://user:sesame%zz@host/"); err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("the error of a false address: %v", err)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("https", "user:SECRET", "host/x?token=SECRET")
	f.Add("ssh", "git:SECRET", "h#x@y")
	f.Fuzz(func(t *testing.T, scheme, login, rest string) {
		if strings.ContainsAny(scheme, ":/ ") || !strings.HasPrefix(scheme, "http") || login == "" || strings.ContainsAny(login+rest, "/?#\\@ \n") {
			return
		}
		if got := Redact(scheme + "://" + login + "@" + rest); !strings.HasPrefix(got, scheme+"://xxxxx@") {
			t.Errorf("Redact(%s://%s@%s) = %s", scheme, login, rest, got)
		}
	})
}
