package words

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ParseTime reads a time as the flags --since and --until give it: a Go duration before now, RFC 3339 with or without its
// smaller parts, in the zone of now if it has none, or Unix seconds with an optional fraction. "" is the zero time. Its error is an InvalidError.
func ParseTime(value string, now time.Time) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := parseTime(value, now)
	if err != nil {
		return time.Time{}, InvalidError(err.Error())
	}
	return t, nil
}

func parseTime(value string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(value); err == nil && value != "0" {
		return now.Add(-d), nil
	}
	zoned := strings.ContainsAny(value, "zZ+") || strings.Count(value, "-") == 3
	layout := layoutOf(value, zoned)
	var t time.Time
	var err error
	if zoned {
		t, err = time.Parse(layout, value)
	} else {
		t, err = time.ParseInLocation(layout, value, time.FixedZone(now.Zone()))
	}
	if err == nil || strings.Contains(value, "-") {
		return t, err
	}
	if t, err = parseUnix(value); err != nil {
		return time.Time{}, fmt.Errorf("failed to parse value as time or duration: %q", value)
	}
	return t, nil
}

// layoutOf guesses which parts of RFC 3339 a value has.
func layoutOf(value string, zoned bool) string {
	layout := time.DateOnly
	switch colons := strings.Count(value, ":"); {
	case strings.Contains(value, "."):
		layout = "2006-01-02T15:04:05.999999999"
	case strings.Contains(value, "T"):
		if zoned && !strings.ContainsAny(value, "zZ") && colons > 0 {
			colons-- // that of the zone
		}
		layout = []string{"2006-01-02T15", "2006-01-02T15:04", "2006-01-02T15:04:05"}[min(colons, 2)]
	}
	if zoned {
		layout += "Z07:00"
	}
	return layout
}

func parseUnix(value string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(value, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || fraction == "" {
		return time.Unix(seconds, 0), err
	}
	if strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, errors.New("no number")
	}
	nanos, err := strconv.ParseInt((fraction + strings.Repeat("0", 9))[:9], 10, 64)
	if seconds > math.MaxInt64/int64(time.Second) {
		err = errors.New("too far from now")
	}
	return time.Unix(seconds, nanos), err
}
