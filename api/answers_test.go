package api

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// oracle is the socket of docker's engine, which says what the answers are to be: go test ./api -run TestAnswers -oracle SOCKET writes
// testdata/answers.txt. The engine must be empty.
var oracle = flag.String("oracle", "", "socket of docker's engine, of 28.5")

// A question is a request whose answer docker's engine has given. A body that begins with "tar:" is a tar of a file of that name.
type question struct{ method, path, body string }

// questions are asked in this order of a store that is empty.
func questions() []question {
	return parseQuestions(`
POST /images/create?fromSrc=-&repo=base&tag=1&changes=CMD+%5B%22sh%22%5D&changes=LABEL+a%3Db tar:etc/motd=hello
POST /images/create?fromSrc=-&repo=BASE&tag=1 tar:etc/motd=hello
GET /images/json
GET /images/json?filters=%7B%22label%22%3A%7B%22a%3Db%22%3Atrue%7D%7D
GET /images/json?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D
GET /images/json?filters=%7B%22none%22%3A%5B%22a%22%5D%7D
GET /images/json?filters=x
GET /images/base:1/json
GET /images/base:1/json?manifests=1
GET /images/none/json
GET /images/library/none:2/json
GET /images/base:1/history
GET /images/none/history
POST /images/base:1/tag?repo=localhost:1/a/b&tag=2
POST /images/base:1/tag?repo=A&tag=2
POST /images/none/tag?repo=a&tag=2
POST /images/localhost:1/a/b/push?tag=2
POST /images/localhost:1/none/push?tag=2
GET /images/localhost:1/a/b:2/get
GET /images/get?names=none
POST /images/load?quiet=1 text
DELETE /images/localhost:1/a/b:2
DELETE /images/none
POST /images/create?fromImage=localhost:1/a&tag=1
POST /images/create?fromImage=A&tag=1
GET /distribution/localhost:1/a/json
POST /auth {"username":"u","password":"p","serveraddress":"localhost:1"}
POST /build?t=built:1&labels=%7B%22x%22%3A%22y%22%7D&buildargs=%7B%22A%22%3A%22b%22%7D tar:Dockerfile=FROM base:1\nARG A\nLABEL b=$A\n
POST /build?t=built:2&dockerfile=Other tar:Other=FROM base:1\nLABEL b=c\n
POST /build?q=1 tar:Dockerfile=FROM base:1\n
POST /build tar:Dockerfile=NONE\n
POST /build?buildargs=x tar:Dockerfile=FROM base:1\n
GET /images/built:1/json
GET /networks
GET /networks/bridge
GET /networks/none
GET /networks/absent
GET /networks?filters=%7B%22none%22%3A%5B%22a%22%5D%7D
POST /networks/create {"Name":"n1","CheckDuplicate":true,"Driver":"bridge","Labels":{"a":"b"},"IPAM":{"Driver":"default","Config":[{"Subnet":"10.231.7.0/24","Gateway":"10.231.7.1"}]}}
POST /networks/create {"Name":"n1"}
POST /networks/create {"Name":"n2","Driver":"other"}
POST /networks/create {"Name":"bridge"}
POST /networks/create {}
POST /networks/create {"Name":"n3","IPAM":{"Config":[{"Subnet":"10.9.0.0/33"}]}}
POST /networks/create
GET /networks/n1?verbose=true
GET /networks?filters=%7B%22name%22%3A%5B%22n1%22%5D%2C%22label%22%3A%5B%22a%3Db%22%5D%7D
POST /networks/n1/connect {"Container":"absent"}
POST /networks/absent/connect {"Container":"absent"}
DELETE /networks/bridge
DELETE /networks/n1
DELETE /networks/n1
POST /networks/prune
GET /volumes
POST /volumes/create {"Name":"v1","Labels":{"a":"b"}}
POST /volumes/create {"Name":"v1","Driver":"other"}
POST /volumes/create {"Name":"../v"}
POST /volumes/create {}
GET /volumes/v1
GET /volumes/absent
GET /volumes?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D
GET /volumes?filters=%7B%22none%22%3A%5B%22a%22%5D%7D
DELETE /volumes/absent
DELETE /volumes/absent?force=1
POST /volumes/prune
DELETE /volumes/v1
GET /system/df
GET /system/df?type=image
GET /events?since=0&until=1
POST /build/prune
POST /images/prune
POST /images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D
`)
}

func parseQuestions(text string) (list []question) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		q := question{}
		q.method, q.path, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		q.path, q.body, _ = strings.Cut(q.path, " ")
		list = append(list, q)
	}
	return list
}

// content is what is sent.
func (q question) content(t *testing.T) (kind string, body []byte) {
	t.Helper()
	file, ok := strings.CutPrefix(q.body, "tar:")
	if !ok {
		return "application/json", []byte(q.body)
	}
	name, text, _ := strings.Cut(file, "=")
	text = strings.ReplaceAll(text, `\n`, "\n")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
	_, writeErr := io.WriteString(w, text)
	if err := errors.Join(err, writeErr, w.Close()); err != nil {
		t.Fatal(err)
	}
	return "application/x-tar", b.Bytes()
}

// ask is the answer: its status and content type, and the keys of the objects in its body.
func (q question) ask(t *testing.T, client *http.Client, base string) (head string, keys []string, body string) {
	t.Helper()
	kind, content := q.content(t)
	path := q.path
	if !strings.HasPrefix(path, "/v1.") {
		path = "/v1.51" + path
	}
	r, err := http.NewRequestWithContext(t.Context(), q.method, base+path, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if len(content) > 0 {
		r.Header.Set("Content-Type", kind)
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for dec := json.NewDecoder(bytes.NewReader(raw)); ; {
		var v any
		if dec.Decode(&v) != nil {
			break
		}
		collect(v, "", found)
	}
	head = fmt.Sprint(res.StatusCode)
	if kind := res.Header.Get("Content-Type"); kind != "" {
		head += " " + kind
	}
	return head, slices.Sorted(maps.Keys(found)), string(raw)
}

// collect notes the keys of a value. Below some, keys are names that users have chosen.
func collect(v any, at string, found map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			collect(one, at+"[]", found)
		}
	case map[string]any:
		for k, one := range v {
			name := strings.TrimPrefix(at+"."+k, ".")
			found[name] = true
			if !slices.Contains([]string{"Labels", "Options", "Data", "Attributes"}, k) {
				collect(one, name, found)
			}
		}
	}
}

// TestAnswers asks what docker's engine was asked, and wants the same status, the same content type, and at least the same keys.
func TestAnswers(t *testing.T) {
	checkAnswers(t, "testdata/answers.txt", questions())
}

// checkAnswers asks questions, and compares the answers with a file, or writes the file.
func checkAnswers(t *testing.T, file string, questions []question) {
	t.Helper()
	if *oracle != "" {
		recordAnswers(t, file, questions)
		return
	}
	h, _ := newServer(t)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{} // of a question: head, and keys
	for block := range strings.SplitSeq(strings.TrimSpace(string(raw)), "\n\n") {
		lines := strings.Split(block, "\n")
		want[lines[0]] = lines[1:]
	}
	seen := map[string]int{}
	for _, q := range questions {
		head, keys, body := q.ask(t, http.DefaultClient, h.URL)
		name := q.name(seen)
		expected := want[name]
		if len(expected) == 0 {
			t.Errorf("%s: no answer is recorded", name)
			continue
		}
		if head != expected[0] {
			t.Errorf("%s: %s, want %s\n%s", name, head, expected[0], body)
			continue
		}
		for _, key := range expected[1:] {
			if !slices.Contains(keys, key) {
				t.Errorf("%s: the answer has no %s\n%s", name, key, body)
			}
		}
	}
}

// name tells questions apart that are asked several times.
func (q question) name(seen map[string]int) string {
	name := strings.TrimSpace(q.method + " " + q.path + " " + q.body)
	if seen[name]++; seen[name] > 1 {
		name += fmt.Sprintf(" #%d", seen[name])
	}
	return name
}

// recordAnswers writes down what docker's engine answers.
func recordAnswers(t *testing.T, file string, questions []question) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", *oracle)
	}}}
	var b strings.Builder
	seen := map[string]int{}
	for _, q := range questions {
		head, keys, _ := q.ask(t, client, "http://docker")
		fmt.Fprintln(&b, strings.Join(append([]string{q.name(seen), head}, keys...), "\n")+"\n")
	}
	if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, []byte(b.String()), 0o644)); err != nil {
		t.Fatal(err)
	}
}
