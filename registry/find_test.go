package registry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestFindInHub holds what is asked of Docker Hub's search, and what its answer means.
func TestFindInHub(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/search" || r.URL.Query().Get("n") != "2" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, `{"num_results":3,"results":[{"name":%q,"description":"d","star_count":7,"is_official":true,"is_automated":false},
			{"name":"b"},{"name":"c"}]}`, "found-"+r.URL.Query().Get("q"))
	}))
	defer server.Close()
	client := NewClient(Options{config: &config{}})
	o, err := client.originOf(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	client.origins[hubSearch+" false false"] = o
	for term, query := range map[string]string{"user/app x": "user/app x", "docker.io/library/nginx": "nginx", "nginx": "nginx"} {
		found, err := client.Find(t.Context(), term, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != 2 || found[0] != (Found{Name: "found-" + query, Description: "d", Stars: 7, Official: true}) || found[1].Name != "b" {
			t.Errorf("%s: found %v", term, found)
		}
	}
	for _, limit := range []int{0, 101} {
		if _, err := client.Find(t.Context(), "x", limit); err == nil {
			t.Errorf("a limit of %d is taken", limit)
		}
	}
}
