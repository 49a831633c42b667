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

	sparseMap, sparseName, sparseSize, sparseVersion string
}

// sparse reports whether the entry is a sparse file in one of the ways of GNU tar.
func (r *paxRecords) sparse() bool { return r.sparseMap != "" || r.sparseVersion != "" }

// parsePAX reads records: "length key=value\n", where the length counts itself.
func parsePAX(b []byte) (r paxRecords, err error) {
	var list []string // offsets and sizes, one record each, of the oldest form
	major, minor := "", ""
	for s := string(b); s != ""; {
		var key, value string
		if key, value, s, err = cutRecord(s); err != nil {
			return paxRecords{}, err
		}
		switch key {
		case "path":
			r.path = value
		case "linkpath":
			r.linkpath = value
		case "size":
			r.size = value
		case "uid":
			r.uid = value
		case "gid":
			r.gid = value
		case "mtime":
			r.mtime = value
		case "GNU.sparse.map":
			r.sparseMap = value
		case "GNU.sparse.name":
			r.sparseName = value
		case "GNU.sparse.size", "GNU.sparse.realsize":
			r.sparseSize = value
		case "GNU.sparse.offset", "GNU.sparse.numbytes":
			if (key == "GNU.sparse.numbytes") != (len(list)%2 == 1) {
				return paxRecords{}, fmt.Errorf("%w: sparse map", ErrTar)
			}
			list = append(list, value)
		case "GNU.sparse.major":
			major = value
		case "GNU.sparse.minor":
			minor = value
		default:
			if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && filetree.KeepXattr(name) {
				if r.xattrs == nil {
					r.xattrs = make(map[string]string)
				}
				r.xattrs[name] = value
			}
		}
	}
	if len(list) > 0 {
		r.sparseMap = strings.Join(list, ",")
	}
	if major != "" && major != "0" {
		r.sparseVersion = major + "." + minor
	}
	if strings.Contains(r.path+r.linkpath+r.sparseName, "\x00") {
		return paxRecords{}, fmt.Errorf("%w: name with a zero byte", ErrTar)
	}
	return r, nil
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
