package network

func helperPasta() {}
