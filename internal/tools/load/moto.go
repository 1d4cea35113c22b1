package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// startMoto starts moto_server and gives it so many desktops through its own API; ids are those it has drawn. It serves plain HTTP and
// checks no signature, which is in its favour.
func (b *bench) startMoto(ctx context.Context, desktops int) (p *process, e *endpoint, ids []string, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, nil, nil, err
	}
	host, port, _ := strings.Cut(address, ":")
	if p, err = launch(b.moto, "-H", host, "-p", port); err != nil {
		return nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			discard(p)
		}
	}()
	e = &endpoint{name: "moto", address: address, signer: example(), pid: p.pid()}
	if err = p.until(ctx, func() error { return motoAnswers(ctx, address) }); err != nil {
		return nil, nil, nil, err
	}
	directory, err := motoDirectory(ctx, e)
	if err != nil {
		return nil, nil, nil, err
	}
	for len(ids) < desktops {
		made, err := motoCreate(ctx, e, directory, min(25, desktops-len(ids)))
		if err != nil {
			return nil, nil, nil, err
		}
		ids = append(ids, made...)
	}
	return p, e, ids, nil
}

func motoAnswers(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/moto-api/", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// motoDirectory makes a directory in two subnets of the default VPC and registers it.
func motoDirectory(ctx context.Context, e *endpoint) (string, error) {
	subnets, vpc, err := motoSubnets(ctx, e)
	if err != nil {
		return "", err
	}
	ds := *e.signer
	ds.Service = "ds"
	other := &endpoint{name: e.name, address: e.address, signer: &ds}
	body := fmt.Sprintf(`{"Name":"corp.example.com","Password":"Passw0rd!","Edition":"Standard","VpcSettings":{"VpcId":%q,"SubnetIds":[%q,%q]}}`, vpc, subnets[0], subnets[1])
	text, err := other.once(ctx, call{"DirectoryService_20150416.CreateMicrosoftAD", body, "DirectoryId"})
	if err != nil {
		return "", err
	}
	var made struct{ DirectoryId string }
	if err := json.Unmarshal(text, &made); err != nil {
		return "", err
	}
	_, err = e.once(ctx, call{"WorkspacesService.RegisterWorkspaceDirectory", fmt.Sprintf(`{"DirectoryId":%q,"EnableWorkDocs":false}`, made.DirectoryId), ""})
	return made.DirectoryId, err
}

// motoSubnets finds two subnets of one VPC. EC2 speaks another protocol than the calls here; moto checks no signature, so the scope alone
// says which service is meant.
func motoSubnets(ctx context.Context, e *endpoint) ([]string, string, error) {
	form := url.Values{"Action": {"DescribeSubnets"}, "Version": {"2016-11-15"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.address+"/", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+e.signer.AccessKeyID+"/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer discard(resp.Body)
	var text strings.Builder
	if err := resp.Write(&text); err != nil {
		return nil, "", err
	}
	var subnets []string
	for _, m := range regexp.MustCompile(`<subnetId>(.+?)</subnetId>`).FindAllStringSubmatch(text.String(), -1) {
		subnets = append(subnets, m[1])
	}
	vpc := regexp.MustCompile(`<vpcId>(.+?)</vpcId>`).FindStringSubmatch(text.String())
	if len(subnets) < 2 || vpc == nil {
		return nil, "", fmt.Errorf("moto has no default subnets: %.300s", text.String())
	}
	return subnets, vpc[1], nil
}

// motoProperties are those of Carrel's desktops, so that answers hold the same.
const motoProperties = `"WorkspaceProperties":{"RunningMode":"AUTO_STOP","RunningModeAutoStopTimeoutInMinutes":60,"RootVolumeSizeGib":80,"UserVolumeSizeGib":50,"ComputeTypeName":"STANDARD"}`

func motoCreate(ctx context.Context, e *endpoint, directory string, n int) ([]string, error) {
	var items []string
	for i := range n {
		items = append(items, fmt.Sprintf(`{"DirectoryId":%q,"UserName":%q,"BundleId":"wsb-bh8rsxt14",%s}`, directory, userName(i), motoProperties))
	}
	text, err := e.once(ctx, call{"WorkspacesService.CreateWorkspaces", `{"Workspaces":[` + strings.Join(items, ",") + `]}`, "PendingRequests"})
	if err != nil {
		return nil, err
	}
	var made struct {
		PendingRequests []struct{ WorkspaceId string }
	}
	if err := json.Unmarshal(text, &made); err != nil {
		return nil, err
	}
	if len(made.PendingRequests) != n {
		return nil, fmt.Errorf("moto made %d of %d desktops: %.300s", len(made.PendingRequests), n, text)
	}
	var ids []string
	for _, w := range made.PendingRequests {
		ids = append(ids, w.WorkspaceId)
	}
	return ids, nil
}
