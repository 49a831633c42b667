package words

import (
	"strings"
	"testing"
	"text/template"
)

func TestTemplateFunctions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{{json .}}`:                            `"<a b & c>"`,
		`{{title "a bc"}} {{upper "x"}}`:        "A Bc X",
		`{{title "my-app.v2_x/é1b"}}`:           "My-App.V2_x/É1b",
		`{{lower "X"}}{{truncate "äbc" 2}}`:     "xäb",
		`{{truncate "a" 9}}{{truncate "a" -1}}`: "a",
		`{{join (split "a,b" ",") "+"}}`:        "a+b",
		`[{{pad "a" 1 2}}][{{pad "" 1 2}}]`:     "[ a  ][]",
		`{{println "a"}}`:                       "a\n",
		`{{pad "a" 99999999 0}}`:                "more than 65536 spaces",
	} {
		var b strings.Builder
		err := template.Must(template.New("").Funcs(TemplateFunctions()).Parse(text)).Execute(&b, "<a b & c>")
		if got := b.String(); err == nil && got != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}
