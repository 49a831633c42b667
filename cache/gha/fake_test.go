package gha

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/forge-build/forge/cache/objects/objectstest"
)

// A fake is the cache service of a runner, in both versions, and the storage that it signs addresses of.
type fake struct {
	*objectstest.Server
	t       *testing.T
	entries []*stored // in the order in which they were begun
}

type stored struct {
	key, version string
	data         []byte
	blocks       map[string][]byte
	done         bool
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t}
	f.Server = objectstest.Serve(t, f.serve)
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request, body []byte) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/storage/"); ok {
		f.storage(w, r, rest, body)
		return
	}
	if r.Header.Get("Authorization") != "Bearer token" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/base/_apis/artifactcache/"); ok && r.Header.Get("Accept") == restAccept {
		f.rest(w, r, rest, body)
		return
	}
	if method, ok := strings.CutPrefix(r.URL.Path, "/base/twirp/github.actions.results.api.v1.CacheService/"); ok && r.Method == http.MethodPost {
		f.twirp(w, method, body)
		return
	}
	w.WriteHeader(http.StatusNotFound)
}

// find finds as the service does: the newest whose key begins with one of the keys, an equal one first.
func (f *fake) find(version string, keys ...string) (int, bool) {
	for _, key := range keys {
		for i := len(f.entries) - 1; i >= 0; i-- {
			if e := f.entries[i]; e.done && e.version == version && e.key == key {
				return i, true
			}
		}
		for i := len(f.entries) - 1; i >= 0; i-- {
			if e := f.entries[i]; e.done && e.version == version && strings.HasPrefix(e.key, key) {
				return i, true
			}
		}
	}
	return 0, false
}

// begin begins an entry, unless there is one.
func (f *fake) begin(key, version string) (int, bool) {
	if len(key) > 512 || strings.Contains(key, ",") {
		f.t.Errorf("key %q", key)
	}
	for _, e := range f.entries {
		if e.key == key && e.version == version {
			return 0, false
		}
	}
	f.entries = append(f.entries, &stored{key: key, version: version, blocks: map[string][]byte{}})
	return len(f.entries), true
}

func (f *fake) signed(i int) string { return fmt.Sprintf("%s/storage/%d?sig=a%%2Bb", f.URL, i) }

func (f *fake) rest(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	var in struct {
		Key, Version string
		Size         int64
	}
	_ = json.Unmarshal(body, &in)
	id, _ := strconv.Atoi(strings.TrimPrefix(path, "caches/"))
	switch {
	case path == "cache":
		i, ok := f.find(r.URL.Query().Get("version"), strings.Split(r.URL.Query().Get("keys"), ",")...)
		if !ok {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		fmt.Fprintf(w, `{"cacheKey":%q,"scope":"refs/heads/main","archiveLocation":%q}`, f.entries[i].key, f.signed(i))
	case path == "caches":
		id, ok := f.begin(in.Key, in.Version)
		if !ok {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"typeKey":"ArtifactCacheItemAlreadyExistsException","message":"Cache already exists"}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"cacheId":%d}`, id)
	case r.Method == http.MethodPatch:
		var from, to int
		if n, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/*", &from, &to); n != 2 || err != nil || to-from+1 != len(body) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		e := f.entries[id-1]
		e.data = append(e.data, make([]byte, max(to+1-len(e.data), 0))...)
		copy(e.data[from:], body)
		w.WriteHeader(http.StatusNoContent)
	default:
		e := f.entries[id-1]
		if in.Size != int64(len(e.data)) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		e.done = true
		w.WriteHeader(http.StatusNoContent)
	}
}

func (f *fake) twirp(w http.ResponseWriter, method string, body []byte) {
	var in struct {
		Key, Version string
		Restore      []string `json:"restore_keys"`
		Size         string   `json:"size_bytes"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch method {
	case "GetCacheEntryDownloadURL":
		i, ok := f.find(in.Version, append([]string{in.Key}, in.Restore...)...)
		if !ok || len(in.Restore) == 0 && f.entries[i].key != in.Key {
			fmt.Fprint(w, `{"ok":false,"signed_download_url":"","matched_key":""}`)
			return
		}
		fmt.Fprintf(w, `{"ok":true,"signed_download_url":%q,"matched_key":%q}`, f.signed(i), f.entries[i].key)
	case "CreateCacheEntry":
		id, ok := f.begin(in.Key, in.Version)
		if !ok {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"code":"already_exists","msg":"cache entry with the same key, version, and scope already exists"}`)
			return
		}
		fmt.Fprintf(w, `{"ok":true,"signed_upload_url":%q}`, f.signed(id-1))
	case "FinalizeCacheEntryUpload":
		for _, e := range f.entries {
			if e.key == in.Key {
				e.done = in.Size == strconv.Itoa(len(e.data))
				fmt.Fprintf(w, `{"ok":%t,"entry_id":"1"}`, e.done)
			}
		}
	}
}

// storage is Azure's Blob service.
func (f *fake) storage(w http.ResponseWriter, r *http.Request, id string, body []byte) {
	i, _ := strconv.Atoi(id)
	e := f.entries[i]
	q := r.URL.Query()
	if q.Get("sig") != "a+b" || r.Header.Get("Authorization") != "" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	switch {
	case r.Method == http.MethodGet:
		from := 0
		status := http.StatusOK
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			status = http.StatusPartialContent
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(e.data)-from))
		w.WriteHeader(status)
		_, _ = w.Write(e.data[from:])
		return
	case q.Get("comp") == "block":
		e.blocks[q.Get("blockid")] = body
	case q.Get("comp") == "blocklist":
		var list struct{ Latest []string }
		if err := xml.Unmarshal(body, &list); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		e.data = nil
		for _, id := range list.Latest {
			e.data = append(e.data, e.blocks[id]...)
		}
	case r.Header.Get("X-Ms-Blob-Type") == "BlockBlob":
		e.data = body
	default:
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusCreated)
}
