package layertar

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge/snapshot/filetree"
)

// paxRecords are the records of one PAX header that mean something here; "" is one that is not there.
type paxRecords struct {
	path, linkpath, size, uid, gid, mtime string
	xattrs                                map[string]string
	gnu                                   gnuSparse
}

// gnuSparse are the records of a sparse file, in the words of the versions of GNU tar.
type gnuSparse struct {
	major, minor  string
	name, size    string
	offsets       string   // of version 0.1: offsets and sizes of the pieces of data, with commas between them
	offsetRecords []string // of version 0.0: the same, a record each
}

// sparse reports whether the entry is a sparse file in one of the ways of GNU tar.
func (r *paxRecords) sparse() bool { return r.gnu.offsets != "" || r.gnu.version() != "" }

// version is that of a map which is not in the records; "" if it is.
func (g *gnuSparse) version() string {
	if g.major == "" || g.major == "0" {
		return ""
	}
	return g.major + "." + g.minor
}

// field is where the value of a record with this key goes, or nil.
func (r *paxRecords) field(key string) *string {
	switch key {
	case "path":
		return &r.path
	case "linkpath":
		return &r.linkpath
	case "size":
		return &r.size
	case "uid":
		return &r.uid
	case "gid":
		return &r.gid
	case "mtime":
		return &r.mtime
	case "GNU.sparse.map":
		return &r.gnu.offsets
	case "GNU.sparse.name":
		return &r.gnu.name
	case "GNU.sparse.size", "GNU.sparse.realsize":
		return &r.gnu.size
	case "GNU.sparse.major":
		return &r.gnu.major
	case "GNU.sparse.minor":
		return &r.gnu.minor
	}
	return nil
}

// parsePAX reads records: "length key=value\n", where the length counts itself. Later ones win.
func parsePAX(b []byte) (r paxRecords, err error) {
	for s := string(b); s != ""; {
		var key, value string
		if key, value, s, err = cutRecord(s); err != nil {
			return paxRecords{}, err
		}
		if field := r.field(key); field != nil {
			*field = value
		} else if err := r.other(key, value); err != nil {
			return paxRecords{}, err
		}
	}
	if list := r.gnu.offsetRecords; len(list) > 0 {
		r.gnu.offsets = strings.Join(list, ",")
	}
	if strings.Contains(r.path+r.linkpath+r.gnu.name, "\x00") {
		return paxRecords{}, fmt.Errorf("%w: name with a zero byte", ErrTar)
	}
	return r, nil
}

// other takes a record of which there may be several.
func (r *paxRecords) other(key, value string) error {
	switch key {
	case "GNU.sparse.offset", "GNU.sparse.numbytes":
		if (key == "GNU.sparse.numbytes") != (len(r.gnu.offsetRecords)%2 == 1) {
			return fmt.Errorf("%w: sparse map", ErrTar)
		}
		r.gnu.offsetRecords = append(r.gnu.offsetRecords, value)
		return nil
	}
	if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && filetree.KeepXattr(name) {
		if r.xattrs == nil {
			r.xattrs = make(map[string]string)
		}
		r.xattrs[name] = value
	}
	return nil
}

// cutRecord cuts the first record off.
func cutRecord(s string) (key, value, rest string, err error) {
	bad := fmt.Errorf("%w: PAX record %.40q", ErrTar, s)
	digits, _, ok := strings.Cut(s, " ")
	n, e := strconv.ParseUint(digits, 10, 31)
	if !ok || e != nil || int(n) <= len(digits)+1 || int(n) > len(s) || s[n-1] != '\n' {
		return "", "", "", bad
	}
	key, value, ok = strings.Cut(s[len(digits)+1:n-1], "=")
	if !ok || key == "" || strings.Contains(key, "\x00") {
		return "", "", "", bad
	}
	return key, value, s[n:], nil
}

// parseTime reads seconds with decimals; what is finer than nanoseconds is cut off.
func parseTime(s string) (time.Time, error) {
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: time %.40q", ErrTar, s)
	}
	digits := (frac + "000000000")[:9]
	nsec, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || strings.Trim(frac, "0123456789") != "" {
		return time.Time{}, fmt.Errorf("%w: time %.40q", ErrTar, s)
	}
	if strings.HasPrefix(whole, "-") {
		return time.Unix(sec, -int64(nsec)), nil
	}
	return time.Unix(sec, int64(nsec)), nil
}
