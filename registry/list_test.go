package registry_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// tagPages answers with a list of pages of 1000 tags each, which all begin with prefix.
func tagPages(pages int, prefix string) registrytest.Do {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		tags := make([]string, 1000)
		for i := range tags {
			tags[i] = fmt.Sprintf("%s%d", prefix, page*1000+i)
		}
		if page+1 < pages {
			w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, page+1))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"tags": tags})
	}
}

// TestTagsAreBounded holds that a registry cannot have us keep what it likes in memory, by many tags or by long ones.
func TestTagsAreBounded(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "team/app:1")
	for _, test := range []struct {
		pages  int
		prefix string
		want   string // in the error; "" if there is none
	}{
		{100, "v", ""},
		{101, "v", ref.Name() + ": has more than 100000 tags"},
		{1, strings.Repeat("x", 128), ref.Name() + `: tag "xxx`},
	} {
		r.Reset()
		r.Fault(fault{Path: "/tags/list", Do: tagPages(test.pages, test.prefix)})
		tags, err := connect(t, ref, registry.Options{Limits: quick}).Tags(t.Context())
		if test.want == "" && (err != nil || len(tags) != 100_000) {
			t.Errorf("%d pages: %d tags, %v", test.pages, len(tags), err)
		}
		if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 1000) {
			t.Errorf("%d pages of tags %.3s…: %v, want %s", test.pages, test.prefix, err, test.want)
		}
	}
}
