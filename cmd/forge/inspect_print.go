package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"reflect"
	"strings"
	"text/template"

	"github.com/forge-build/forge/inspect"
)

// print prints objects as JSON, or each by a template.
func (c *inspectCmd) print(s *session, list []any) error {
	if c.Format == "" || c.Format == "json" {
		enc := json.NewEncoder(jsonWriter{s.out})
		enc.SetEscapeHTML(false)
		if c.Format == "" {
			enc.SetIndent("", "    ")
		}
		return enc.Encode(append([]any{}, list...))
	}
	t, err := parseTemplate(c.Format)
	if err != nil {
		return err
	}
	for _, value := range list {
		if err := executeFor(s.out, t, value); err != nil {
			return err
		}
	}
	return nil
}

// executeFor lets a template use the names of fields, and, as docker does, else those of the JSON, docker's among them.
func executeFor(w io.Writer, t *template.Template, value any) error {
	var b bytes.Buffer
	err := t.Execute(&b, value)
	if err != nil {
		raw, jsonErr := json.Marshal(value)
		own, ownErr := fieldsOf(raw)
		if jsonErr := errors.Join(jsonErr, ownErr); jsonErr != nil {
			return jsonErr
		}
		fields := dockerFields(value)
		overlay(fields, own)
		pointers(fields)
		b.Reset()
		if t.Option("missingkey=error").Execute(&b, fields) != nil {
			return err
		}
	}
	_, err = b.WriteTo(w)
	return err
}

// dockerFields are all fields that docker has of an object, with docker's empty values: those of the structure, also those that the JSON leaves
// out, and those that forge has nothing to say of. Templates that people have written for docker find them.
func dockerFields(value any) map[string]any {
	fields := map[string]any{}
	if t := reflect.TypeOf(value); t.Kind() == reflect.Pointer {
		overlay(fields, emptyFields(t.Elem()))
	}
	switch value.(type) {
	case *inspect.Container:
		overlay(fields, map[string]any{
			"ImageManifestDescriptor": nil,
			"HostConfig":              map[string]any{"CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpuCount": 0, "CpuPercent": 0, "KernelMemory": 0, "KernelMemoryTCP": 0},
		})
	case *inspect.Image:
		config := emptyFields(reflect.TypeFor[inspect.Config]())
		overlay(fields, map[string]any{"Container": "", "Created": "", "OsVersion": "", "VirtualSize": 0, "Config": config, "ContainerConfig": config})
	case *inspect.Network:
		overlay(fields, map[string]any{"Peers": []any{}, "Services": map[string]any{}})
	}
	return fields
}

// emptyFields are the fields of a structure by their names in JSON: numbers, texts and structures are there, lists and maps are empty, and
// pointers null.
func emptyFields(t reflect.Type) map[string]any {
	fields := map[string]any{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || tag == "-":
			continue
		case f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct:
			maps.Copy(fields, emptyFields(f.Type))
			continue
		case tag == "":
			tag = f.Name
		}
		switch _, marshals := f.Type.MethodByName("MarshalJSON"); {
		case marshals:
			fields[tag] = inJSON(reflect.Zero(f.Type).Interface())
		case f.Type.Kind() == reflect.Struct:
			fields[tag] = emptyFields(f.Type)
		case f.Type.Kind() == reflect.Slice:
			fields[tag] = []any{}
		case f.Type.Kind() == reflect.Map:
			fields[tag] = map[string]any{}
		case f.Type.Kind() == reflect.Pointer || f.Type.Kind() == reflect.Interface:
			fields[tag] = nil
		default:
			fields[tag] = reflect.Zero(f.Type).Interface()
		}
	}
	return fields
}

// inJSON is a value as its JSON has it: a time is a text.
func inJSON(value any) (v any) {
	if raw, err := json.Marshal(value); err == nil {
		_ = json.Unmarshal(raw, &v) // of what was just written
	}
	return v
}

// fieldsOf are the fields of an object; its numbers keep their digits.
func fieldsOf(raw []byte) (fields map[string]any, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	err = dec.Decode(&fields)
	return fields, err
}

// pointers makes each null a pointer to nothing, which templates print as docker's do.
func pointers(fields map[string]any) {
	for name, value := range fields {
		if below, ok := value.(map[string]any); ok {
			pointers(below)
		}
		if value == nil {
			fields[name] = (*string)(nil)
		}
	}
}

// overlay puts fields over others of the same names, object by object. Null is over nothing.
func overlay(fields, over map[string]any) {
	for name, value := range over {
		if value == nil && fields[name] != nil {
			continue
		}
		below, isObject := fields[name].(map[string]any)
		above, areObjects := value.(map[string]any)
		if isObject && areObjects {
			merged := maps.Clone(below)
			overlay(merged, above)
			value = merged
		}
		fields[name] = value
	}
}
