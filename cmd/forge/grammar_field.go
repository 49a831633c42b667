package main

import (
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/forge-build/forge"
)

// A lineField is a flag or an argument.
type lineField struct {
	name  string
	tag   reflect.StructTag
	value reflect.Value
	given bool // it is on the command line, and not only in the environment or its default
}

// dashed is the name of a flag whose field has this name: NoCache is no-cache.
func dashed(name string) string {
	var b strings.Builder
	for i, c := range name {
		if unicode.IsUpper(c) && i > 0 && (!unicode.IsUpper(rune(name[i-1])) || i+1 < len(name) && unicode.IsLower(rune(name[i+1]))) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// next reads the value of a flag from the next word.
func (f *lineField) next(words []string) ([]string, bool) {
	if len(words) == 0 {
		return nil, false
	}
	return words[1:], f.set(words[0])
}

func (f *lineField) has(tag string) bool {
	_, ok := f.tag.Lookup(tag)
	return ok
}

// isBool reports whether a flag may stand alone.
func (f *lineField) isBool() bool {
	switch v := f.value.Addr().Interface().(type) {
	case kong.BoolMapperValue:
		return v.IsBool()
	default:
		return f.value.Kind() == reflect.Bool
	}
}

// isOutside reports whether a value is none of those that there are.
func (f *lineField) isOutside() bool {
	return f.has("enum") && !slices.Contains(strings.Split(f.tag.Get("enum"), ","), f.value.String())
}

// preset gives a field the value of the environment, or its default.
func (f *lineField) preset() bool {
	given := func(text string) bool {
		ok := f.set(text)
		f.given = false
		return ok
	}
	for _, name := range strings.Split(f.tag.Get("env"), ",") {
		if text, ok := os.LookupEnv(name); ok {
			return given(text)
		}
	}
	if text, ok := f.tag.Lookup("default"); ok {
		return given(text)
	}
	return true
}

// set gives a field a value, or with none what it has when it stands alone. What takes more than one line to understand is left to kong.
func (f *lineField) set(value ...string) bool {
	if f.has("xor") {
		return false
	}
	first, alone, text := !f.given, len(value) == 0, strings.Join(value, "")
	f.given = true
	var err error
	switch v := f.value.Addr().Interface().(type) {
	case kong.MapperValue:
		var words []kong.Token
		if !alone {
			words = append(words, kong.Token{Value: text, Type: kong.FlagValueToken})
		}
		err = v.Decode(&kong.DecodeContext{Scan: kong.ScanFromTokens(words...)})
	case *bool:
		text = strings.ToLower(text)
		*v = alone || slices.Contains([]string{"true", "1", "yes"}, text)
		return *v || slices.Contains([]string{"false", "0", "no"}, text)
	case *string:
		if *v = text; f.tag.Get("type") == "path" && text != "-" {
			*v = kong.ExpandPath(text)
		}
	case *forge.Snapshotter:
		*v = forge.Snapshotter(text)
	case **string:
		*v = &text
	case *[]string:
		if first {
			*v = nil
		}
		if f.tag.Get("sep") == "none" {
			*v = append(*v, text)
			return true
		}
		several := kong.SplitEscaped(text, ',')
		*v = append(*v, several...)
		return text != "" && !slices.ContainsFunc(several, func(word string) bool { return !isValue(word) })
	case *int:
		*v, err = number(text)
	case **int:
		*v = new(int)
		**v, err = number(text)
	case *int64:
		*v, err = strconv.ParseInt(text, 0, 64)
	case *time.Duration:
		*v, err = time.ParseDuration(text)
	default:
		return false
	}
	return err == nil
}

// number is a number as kong reads it.
func number(text string) (int, error) {
	n, err := strconv.ParseInt(text, 0, strconv.IntSize)
	return int(n), err
}
