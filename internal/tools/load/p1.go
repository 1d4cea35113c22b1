package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"carrel/internal/sigv4"
)

const (
	p1Conns = 64
	p1Round = 2 * time.Second
	pages   = "page of 25: req/s"
	pageCPU = "page of 25: server CPU us/request"
)

// p1 is the whole way of a request: TLS, a signature, a user's policy of twenty statements, the audit record, and a page of 25 out of 100,000
// desktops, beside a handler that does nothing. There is no VPC endpoint in it: its policy is evaluated as the others are.
func (b *bench) p1(ctx context.Context) error {
	b.report.begin("p1", fmt.Sprintf("a page of 25 from %d desktops for a user with 20 statements, %d connections, %d interleaved rounds (medians)", large, p1Conns, b.pairs))
	floor, fe, err := b.startFloor(ctx)
	if err != nil {
		return err
	}
	defer discard(floor)
	dir, err := b.installation(ctx, large)
	if err != nil {
		return err
	}
	carrel, root, err := b.serve(ctx, dir)
	if err != nil {
		return err
	}
	defer discard(carrel)
	user, err := root.user(ctx, "measured", twentyStatements())
	if err != nil {
		return err
	}
	calls := spread(byPage, 2000, large)
	peers := []peer{{fe, anyAnswer(spread(byPage, 2000, large))}, {user, calls}, {root.as("root"), calls}}
	s := newSamples()
	for range b.pairs {
		for _, p := range peers {
			list, err := p.shots(p.calls)
			if err != nil {
				return err
			}
			r, err := closedLoop(ctx, p.endpoint, list, p1Conns, p1Round)
			if err != nil {
				return err
			}
			s.add(pages, p.name, r.perSecond())
			s.add(pageCPU, p.name, r.cpuEach())
		}
	}
	b.report.table("P1", s)
	b.say("a user's twenty statements cost %s times what the root costs, whom no policy is asked for", number(s.ratio(pageCPU, "carrel", "root")))
	b.report.atMost("P1", "server CPU a request, carrel / floor", s.ratio(pageCPU, "carrel", "floor"), 2.5)
	b.report.atLeast("P1", "req/s, carrel / floor", s.ratio(pages, "carrel", "floor"), 0.4)
	return b.profiledAs(ctx, dir, user, "p1", calls)
}

// profiledAs keeps a profile of one load.
func (b *bench) profiledAs(ctx context.Context, dir string, e *endpoint, name string, calls []call) error {
	if b.profiles == "" {
		return nil
	}
	list, err := e.shots(calls)
	if err != nil {
		return err
	}
	return b.profile(ctx, dir, name, func() error {
		_, err := closedLoop(ctx, e, list, p1Conns, 6*time.Second)
		return err
	})
}

// as is the same endpoint under another name.
func (e *endpoint) as(name string) *endpoint {
	c := *e
	c.name = name
	return &c
}

// twentyStatements is a policy in which the statement that allows stands last and most others are about the same action.
func twentyStatements() string {
	var s []string
	for i := range 19 {
		s = append(s, fmt.Sprintf(`{"Effect":"Allow","Action":["workspaces:Describe*","workspaces:Start*"],"Resource":"arn:aws:workspaces:*:*:workspace/ws-%02d*","Condition":{"StringEquals":{"aws:ResourceTag/Team":"team-%d"}}}`, i, i))
	}
	s = append(s, `{"Effect":"Allow","Action":"workspaces:Describe*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":["127.0.0.0/8","::1/128"]},"Bool":{"aws:SecureTransport":"true"}}}`)
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(s, ",") + `]}`
}

// user makes an IAM user with a policy, in place of one of an earlier run, and gives the endpoint as that user reaches it.
func (e *endpoint) user(ctx context.Context, name, policy string) (*endpoint, error) {
	var made struct {
		ARN    string `xml:"CreatePolicyResult>Policy>Arn"`
		ID     string `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
		Secret string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	}
	name = fmt.Sprintf("%s-%d", name, time.Now().UnixNano())
	// A managed policy: twenty statements are more than a user's own may have.
	for _, form := range []url.Values{
		{"Action": {"CreateUser"}, "UserName": {name}},
		{"Action": {"CreatePolicy"}, "PolicyName": {name}, "PolicyDocument": {policy}},
		{"Action": {"AttachUserPolicy"}, "UserName": {name}},
		{"Action": {"CreateAccessKey"}, "UserName": {name}},
	} {
		if form.Get("Action") == "AttachUserPolicy" {
			form.Set("PolicyArn", made.ARN)
		}
		text, err := e.iam(ctx, form)
		if err == nil {
			err = xml.Unmarshal(text, &made)
		}
		if err != nil {
			return nil, err
		}
	}
	user := *e
	signer := *e.signer
	signer.AccessKeyID, signer.Secret = made.ID, sigv4.Secret(made.Secret)
	user.signer = &signer
	return &user, nil
}

// iam makes one call of IAM.
func (e *endpoint) iam(ctx context.Context, form url.Values) ([]byte, error) {
	form.Set("Version", "2010-05-08")
	body := []byte(form.Encode())
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	signer := *e.signer
	signer.Service, signer.Region = "iam", "us-east-1"
	if err := signer.Sign(&sigv4.Request{Method: http.MethodPost, Path: "/", Host: e.address, Header: h, Body: body}, time.Now()); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+e.address+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = h
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: e.tls}, Timeout: answerTimeout}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer discard(resp.Body)
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("iam %s answered %d: %.300s", form.Get("Action"), resp.StatusCode, text)
	}
	return text, err
}
