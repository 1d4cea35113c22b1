package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Load reads and validates a file; "" gives the zero value. The caller lays its flags over it, validates again and calls Complete:
// not before, because some defaults follow from other fields. What is wrong with the values is Problems.
func Load(path string) (*Config, error) {
	c := &Config{}
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		if err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		if c, err = Parse(data); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	if err := c.Validate(); err != nil {
		if path != "" {
			err = fmt.Errorf("configuration %s: %w", path, err)
		}
		return nil, err
	}
	return c, nil
}

// Parse decodes one YAML document strictly: unknown and repeated keys, wrong types, a second document are errors, because a
// misspelt security setting that is silently ignored is worse than a program that does not start. It neither completes nor validates.
func Parse(data []byte) (*Config, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	c := &Config{}
	switch err := dec.Decode(c); {
	case errors.Is(err, io.EOF):
		return c, nil // empty or comments only
	case err != nil:
		return nil, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.Join(errors.New("more than one YAML document"), err)
	}
	return c, nil
}
