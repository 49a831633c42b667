package hcl

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

func timeFunctions() map[string]signature {
	return map[string]signature{
		"timestamp": {0, 0, func([]any) (any, error) { return time.Now().UTC().Format(time.RFC3339), nil }},
		"timeadd": texts(2, func(a []string) (any, error) {
			t, err := parseTime(a[0])
			if err != nil {
				return nil, err
			}
			d, err := time.ParseDuration(a[1])
			return t.Add(d).Format(time.RFC3339), err
		}),
		"formatdate": texts(2, func(a []string) (any, error) {
			t, err := parseTime(a[1])
			if err != nil {
				return nil, err
			}
			return formatDate(a[0], t)
		}),
		"formattimestamp": {2, 2, func(args []any) (any, error) {
			spec, err := String(args[0])
			if err != nil {
				return nil, err
			}
			var t time.Time
			if s, ok := args[1].(string); ok {
				t, err = parseTime(s)
			} else {
				t, err = unixTime(args[1])
			}
			if err != nil {
				return nil, err
			}
			if spec == "X" {
				return strconv.FormatInt(t.Unix(), 10), nil
			}
			return formatDate(spec, t)
		}},
		"unixtimestampparse": {1, 1, func(args []any) (any, error) {
			t, err := unixTime(args[0])
			if err != nil {
				return nil, err
			}
			year, week := t.ISOWeek()
			return map[string]any{
				"year": integer(t.Year()), "year_day": integer(t.YearDay()), "day": integer(t.Day()), "month": integer(int(t.Month())),
				"month_name": t.Month().String(), "weekday": integer(int(t.Weekday())), "weekday_name": t.Weekday().String(),
				"hour": integer(t.Hour()), "minute": integer(t.Minute()), "second": integer(t.Second()),
				"rfc3339": t.Format(time.RFC3339), "iso_year": integer(year), "iso_week": integer(week),
			}, nil
		}},
	}
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q is no time of RFC 3339 such as 2006-01-02T15:04:05Z", s)
	}
	return t, nil
}

func unixTime(v any) (time.Time, error) {
	n, err := Number(v)
	if err != nil {
		return time.Time{}, err
	}
	seconds, exact := n.Int64()
	if exact != big.Exact {
		return time.Time{}, errors.New("unix timestamp must be an integer")
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// formatDate writes a time as HCL's formatdate: repeated letters stand for its parts, and text in single quotes for itself.
func formatDate(spec string, t time.Time) (string, error) {
	var b strings.Builder
	for spec != "" {
		c := spec[0]
		switch {
		case c == '\'':
			text, rest, ok := quoted(spec[1:])
			if !ok {
				return "", errors.New("a quote in the format has no end")
			}
			b.WriteString(text)
			spec = rest
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			n := len(spec) - len(strings.TrimLeft(spec, string(c)))
			text, err := datePart(spec[:n], t)
			if err != nil {
				return "", err
			}
			b.WriteString(text)
			spec = spec[n:]
		default:
			b.WriteByte(c)
			spec = spec[1:]
		}
	}
	return b.String(), nil
}

// quoted reads up to a single quote; two of them are one.
func quoted(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return b.String(), s[i+1:], true
	}
	return "", "", false
}

// datePart is a part of a time, in the letters of formatdate.
func datePart(letters string, t time.Time) (string, error) {
	layout, ok := map[string]string{
		"YYYY": "2006", "YY": "06", "MMMM": "January", "MMM": "Jan", "MM": "01", "M": "1", "DD": "02", "D": "2",
		"EEEE": "Monday", "EEE": "Mon", "hh": "15", "HH": "03", "H": "3", "AA": "PM", "aa": "pm", "mm": "04", "m": "4", "ss": "05", "s": "5",
		"ZZZZZ": "-07:00", "ZZZZ": "-0700", "Z": "Z07:00",
	}[letters]
	switch {
	case letters == "h":
		return strconv.Itoa(t.Hour()), nil
	case letters == "ZZZ":
		if _, seconds := t.Zone(); seconds == 0 {
			return "UTC", nil
		}
		return t.Format("-0700"), nil
	case !ok:
		return "", fmt.Errorf("%q is no part of a time: put text into single quotes", letters)
	}
	return t.Format(layout), nil
}
