"""Who may ask what: keys, their rights and rates. It knows neither HTTP's lanes nor any other transport."""
