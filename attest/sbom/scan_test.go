package sbom

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/snapshot"
)

// treeOf writes files and opens them as a tree. A name that begins with "!" is of a program.
func treeOf(t testing.TB, files map[string]string) *snapshot.Live {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o644)
		if rest, ok := strings.CutPrefix(name, "!"); ok {
			name, mode = rest, 0o755
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return snapshot.OpenLive(f)
}

// header is an rpm header: pairs of tag and value.
func header(values ...any) string {
	var entries, store []byte
	for i := 0; i < len(values); i += 2 {
		entries = binary.BigEndian.AppendUint32(entries, uint32(values[i].(int)))
		switch v := values[i+1].(type) {
		case string:
			entries = binary.BigEndian.AppendUint32(entries, rpmString)
			entries = binary.BigEndian.AppendUint32(entries, uint32(len(store)))
			store = append(append(store, v...), 0)
		case int:
			entries = binary.BigEndian.AppendUint32(entries, rpmInt32)
			entries = binary.BigEndian.AppendUint32(entries, uint32(len(store)))
			store = binary.BigEndian.AppendUint32(store, uint32(v))
		}
		entries = binary.BigEndian.AppendUint32(entries, 1)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(entries)/16))
	head = binary.BigEndian.AppendUint32(head, uint32(len(store)))
	return string(head) + string(entries) + string(store)
}

var (
	bash = header(rpmName, "bash", rpmVersion, "5.2", rpmRelease, "1.el9", rpmArch, "x86_64", rpmLicense, "GPLv3+")
	perl = header(rpmName, "perl", rpmVersion, "5.32", rpmRelease, "2.el9", rpmArch, "noarch", rpmEpoch, 4)
	key  = header(rpmName, "gpg-pubkey", rpmVersion, "fd431d51", rpmRelease, "4ae0493b")
)

// ndb is rpm's own database of headers.
func ndb(headers ...string) string {
	le := binary.LittleEndian
	file := make([]byte, 4096)
	copy(file, "RpmP")
	le.PutUint32(file[12:], 1) // pages of slots
	for at := 32; at < 4096; at += 16 {
		copy(file[at:], "Slot")
	}
	for i, h := range headers {
		slot := file[32+16*i:]
		le.PutUint32(slot[4:], uint32(i+1))
		le.PutUint32(slot[8:], uint32(len(file)/16))
		blob := le.AppendUint32(append(le.AppendUint32([]byte("BlbS"), uint32(i+1)), 0, 0, 0, 0), uint32(len(h)))
		file = append(append(file, blob...), h...)
		file = append(file, make([]byte, 16-len(file)%16)...)
	}
	return string(file)
}

// bdb is a hash of Berkeley DB: a page about all, one of keys and values, and a page for each part of a value.
func bdb(order binary.ByteOrder, headers ...string) string {
	const size = 512
	page := func(kind byte) []byte {
		p := make([]byte, size)
		p[25] = kind
		return p
	}
	meta, hash := page(8), page(bdbHash)
	order.PutUint32(meta[12:], bdbMagic)
	order.PutUint32(meta[20:], size)
	order.PutUint16(hash[20:], uint16(2*len(headers)))
	pages := [][]byte{meta, hash}
	for i, h := range headers {
		at := size - 12*(i+1)
		order.PutUint16(hash[bdbHead+4*i+2:], uint16(at))
		hash[at] = bdbOffPage
		order.PutUint32(hash[at+4:], uint32(len(pages)))
		order.PutUint32(hash[at+8:], uint32(len(h)))
		for len(h) > 0 {
			p := page(bdbOverflow)
			n := copy(p[bdbHead:bdbHead+50], h)
			h = h[n:]
			order.PutUint16(p[22:], uint16(n))
			if len(h) > 0 {
				order.PutUint32(p[16:], uint32(len(pages)+1))
			}
			pages = append(pages, p)
		}
	}
	return string(slices.Concat(pages...))
}

// rpmsqlite is a database that rpm 4.18 has made of two packages of its own.
func rpmsqlite(t testing.TB) string {
	t.Helper()
	f, err := os.Open("testdata/rpmdb.sqlite.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestScan(t *testing.T) {
	t.Parallel()
	self, err := os.ReadFile("/proc/self/exe") // a program of Go
	if err != nil {
		t.Fatal(err)
	}
	rpms := []string{"bash 5.2-1.el9 pkg:rpm/rpm/bash@5.2-1.el9?arch=x86_64", "perl 4:5.32-2.el9 pkg:rpm/rpm/perl@5.32-2.el9?arch=noarch&epoch=4"}
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"nothing": {map[string]string{"etc/passwd": "root"}, nil},
		"dpkg": {map[string]string{
			"etc/os-release": "ID=debian\nVERSION_ID=\"12\"\n",
			"var/lib/dpkg/status": "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u4\nDescription: GNU\n Package: no\n\n" +
				"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: base\nStatus: install ok installed\nVersion: 1:2~3\nArchitecture: all",
		}, []string{
			"base 1:2~3 pkg:deb/debian/base@1:2~3?arch=all&distro=debian-12",
			"libc6 2.36-9+deb12u4 pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12",
		}},
		"distroless": {
			map[string]string{"var/lib/dpkg/status.d/tzdata": "Package: tzdata\nVersion: 2024a\nArchitecture: all\n", "var/lib/dpkg/status.d/tzdata.md5sums": "x: y\nPackage: no\n"},
			[]string{"tzdata 2024a pkg:deb/debian/tzdata@2024a?arch=all"},
		},
		"apk": {
			map[string]string{"etc/os-release": "ID=alpine\n", "lib/apk/db/installed": "C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nF:lib\n\n"},
			[]string{"musl 1.2.5-r0 pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64"},
		},
		"rpm, ndb":        {map[string]string{"usr/lib/sysimage/rpm/Packages.db": ndb(bash, key, perl)}, rpms},
		"rpm, bdb":        {map[string]string{"var/lib/rpm/Packages": bdb(binary.LittleEndian, bash, key, perl)}, rpms},
		"rpm, bdb, s390x": {map[string]string{"var/lib/rpm/Packages": bdb(binary.BigEndian, bash, perl)}, rpms},
		"rpm, sqlite": {map[string]string{"var/lib/rpm/rpmdb.sqlite": rpmsqlite(t), "var/lib/rpm/rpmdb.sqlite-wal": ""}, []string{
			"hello 4:1.2-3 pkg:rpm/rpm/hello@1.2-3?arch=noarch&epoch=4", "world 1.2-3 pkg:rpm/rpm/world@1.2-3?arch=noarch",
		}},
		"npm": {map[string]string{
			"app/package.json":                                  `{"name":"app","version":"1"}`,
			"app/node_modules/left/package.json":                `{"name":"left","version":"0.1.0","license":{"type":"X"}}`,
			"app/node_modules/left/test/package.json":           `{"name":"no","version":"1"}`,
			"app/node_modules/@a/b/package.json":                `{"name":"@a/b","version":"1.2.3","license":"MIT"}`,
			"app/node_modules/@a/b/node_modules/c/package.json": `broken`,
		}, []string{"@a/b 1.2.3 pkg:npm/%40a/b@1.2.3", "left 0.1.0 pkg:npm/left@0.1.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, err := Scan(t.Context(), treeOf(t, c.files))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range all {
				got = append(got, p.Name+" "+p.Version+" "+p.URL)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		all, err := Scan(t.Context(), treeOf(t, map[string]string{"!usr/bin/prog": string(self), "usr/share/prog": string(self), "!bin/sh": strings.Repeat("#!/x", 2000)}))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(all, func(p Package) bool {
			return p.Name == "stdlib" && p.Version != "" && p.Source == "/usr/bin/prog"
		}) {
			t.Errorf("the standard library is not found in a program that has it: %v", all)
		}
		if slices.ContainsFunc(all, func(p Package) bool { return p.Source != "/usr/bin/prog" }) {
			t.Errorf("found in what is no program: %v", all)
		}
	})
}

// TestScanRefuses holds that a database that cannot be read is an error: a list without it would be wrong.
func TestScanRefuses(t *testing.T) {
	t.Parallel()
	whole := rpmsqlite(t)
	loop := []byte(bdb(binary.LittleEndian, perl))
	for at := 2 * 512; at < len(loop); at += 512 {
		binary.LittleEndian.PutUint32(loop[at+16:], 2) // the first page of the value
		binary.LittleEndian.PutUint16(loop[at+22:], 1)
	}
	for name, c := range map[string]struct{ file, content, want string }{
		"empty sqlite":    {"var/lib/rpm/rpmdb.sqlite", "", "ends too early"},
		"other sqlite":    {"var/lib/rpm/rpmdb.sqlite", strings.Repeat("x", 4096), "is not a database of SQLite"},
		"cut sqlite":      {"var/lib/rpm/rpmdb.sqlite", whole[:len(whole)/2], "ends too early"},
		"circle of bdb":   {"var/lib/rpm/Packages", string(loop), "ends too early"},
		"ndb without end": {"var/lib/rpm/Packages.db", ndb(bash)[:4100], "ends too early"},
		"header":          {"var/lib/rpm/Packages.db", ndb("\xff\xff\xff\xff\xff\xff\xff\xff"), "ends too early"},
		"new ndb":         {"var/lib/rpm/Packages.db", "RpmP\x01" + ndb(bash)[5:], "not a database of rpm"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Scan(t.Context(), treeOf(t, map[string]string{c.file: c.content}))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.file) {
				t.Errorf("error %v, and not one of /%s that says %q", err, c.file, c.want)
			}
		})
	}
	_, err := Scan(t.Context(), treeOf(t, map[string]string{"var/lib/rpm/rpmdb.sqlite": whole, "var/lib/rpm/rpmdb.sqlite-wal": "x"}))
	if err == nil || !strings.Contains(err.Error(), "not merged") {
		t.Errorf("a database with a journal is read: %v", err)
	}
}

func TestSPDX(t *testing.T) {
	t.Parallel()
	text, err := SPDX(About{Name: "app", Namespace: "https://example.com/1", Created: time.Unix(0, 0), Tool: "forge-1"}, []Package{
		{Name: "a", Version: "1", License: "MIT AND (BSD-3-Clause OR Zlib)", URL: "pkg:rpm/a@1?arch=x&epoch=1"},
		{Name: "b", License: "see file", URL: "pkg:npm/b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "arch=x&epoch=1") {
		t.Errorf("a URL is written with escapes: %s", text)
	}
	var doc struct {
		SPDXVersion string
		Packages    []struct{ SPDXID, Name, LicenseDeclared string }
		Relations   []struct{ SpdxElementID, RelationshipType, RelatedSpdxElement string } `json:"relationships"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.SPDXVersion != "SPDX-2.3" || len(doc.Packages) != 3 || len(doc.Relations) != 3 {
		t.Fatalf("document: %s", text)
	}
	if got := doc.Packages[1].LicenseDeclared + "|" + doc.Packages[2].LicenseDeclared; got != "MIT AND (BSD-3-Clause OR Zlib)|NOASSERTION" {
		t.Errorf("licenses are %s", got)
	}
	if r := doc.Relations[2]; r.RelationshipType != "CONTAINS" || r.RelatedSpdxElement != doc.Packages[2].SPDXID {
		t.Errorf("relation %v", r)
	}
}

// FuzzRPM holds that no database makes the reading fail otherwise than by an error.
func FuzzRPM(f *testing.F) {
	f.Add(uint8(0), []byte(rpmsqlite(f))[:8192])
	f.Add(uint8(1), []byte(ndb(bash)))
	f.Add(uint8(2), []byte(bdb(binary.LittleEndian, bash)))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		name := []string{"rpmdb.sqlite", "Packages.db", "Packages"}[kind%3]
		_, _ = Scan(t.Context(), treeOf(t, map[string]string{"var/lib/rpm/" + name: string(data)}))
	})
}
